"""Retrieved adapters: the class that is said names its task, and the adapter of that task says again.

    v_0 = the newest view;   v_{r+1} = the task of argmax_c z_c( f_{v_r} ),  r < rounds
    p = ( softmax z(f_{v_0}) + softmax z(f_{v_rounds}) ) / 2,   z_c(f) = scale · cos(f, w_c)

Source: the self-refined retrieval of MOS, Sun et al. 2024, arXiv:2412.09441; known from notes on the paper. All views
are gone through once, and what is retrieved is chosen among them: one pass for each task, whatever is said.

Shape legend: ... any leading axes, V views, D width of what enters the head, C classes.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from palimpsest.models.parts.views_head import ViewsHead, ViewsHeadConfig

SMALLEST = 1e-30


class RetrievedAdaptersConfig(ViewsHeadConfig):
    """Options of retrieved adapters."""

    rounds: int = Field(default=4, ge=0)
    """How often an adapter is retrieved at most; 0 = the newest view answers alone."""


def retrieved(said: Float[Tensor, "... V C"], view_C: Int[Tensor, "C"], start: int, rounds: int) -> Int[Tensor, "..."]:
    """The view that each row ends in.

    Args:
        said: what each view says.
        view_C: of each class, the place of its view.
        start: place of the first view.
        rounds: retrievals.

    >>> said = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [1.0, 0.0]]])
    >>> retrieved(said, torch.tensor([0, 1]), start=1, rounds=1).tolist()
    [1, 0]
    """
    best = said.argmax(dim=-1)
    view = torch.full(best.shape[:-1], start, dtype=torch.long, device=said.device)
    for _ in range(rounds):
        view = view_C[best.gather(-1, view[..., None]).squeeze(-1)]
    return view


class RetrievedAdapters(ViewsHead):
    """A trained row for each class, read in the view that it names itself."""

    Config = RetrievedAdaptersConfig
    kind = "retrieved_adapters"

    @classmethod
    def example(cls, at: str, width: int) -> RetrievedAdaptersConfig:
        """Two views; it knows no class yet."""
        return cls.Config(at=at, width=width, classes=width, tasks=(1, 2), has_rows=False)

    def answer(self, features: Float[Tensor, "... V D"]) -> Float[Tensor, "... C"]:
        """Log of the mean probability of the newest and of the retrieved view."""
        said = self.probabilities(features)
        task_V = torch.tensor(self.config.tasks, device=said.device)
        view_C = (self.own_C[:, None] == task_V).int().argmax(dim=-1)
        last = len(self.config.tasks) - 1
        view = retrieved(said.detach(), view_C, last, self.config.rounds)
        chosen = said.gather(-2, view[..., None, None].expand(*view.shape, 1, said.shape[-1])).squeeze(-2)
        return ((said[..., last, :] + chosen) / 2).clamp_min(SMALLEST).log()


PART = RetrievedAdapters
