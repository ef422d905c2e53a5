"""Ball: the weights stay within an L2 distance of where the run started.

Source: the projection of projected gradient ascent, Halimi et al. 2022, "Federated Unlearning: How to Efficiently Erase
a Client in FL?", arXiv:2207.05521, around any update.

    θ ← θ° + d · min(1, r / ‖d‖),   d = update(θ) − θ°      θ° the weights that the run starts from, one copy of them
    r = radius · ‖θ°‖, or radius itself                     norms over all weights that may move, together

The distance is logged. Departs from the paper: there θ° is the mean of the other clients' models.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from palimpsest.contract import ExampleSet, Phase
from palimpsest.method_card import Config
from palimpsest.models.scope import trainable
from palimpsest.rules.rule import Rule, StepIds


class BallConfig(Config):
    """Options of the ball."""

    radius: float = Field(default=0.01, gt=0)
    """Farthest distance from the start."""
    relative: bool = True
    """The radius is a share of the norm of the weights at the start; false: a length."""


def length(tensors: list[Tensor]) -> Float[Tensor, ""]:
    """L2 norm over all of some tensors, fp32.

    >>> length([torch.tensor([3.0]), torch.tensor([[4.0, 0.0]])]).item()
    5.0
    """
    norms = [torch.linalg.vector_norm(tensor.float()) for tensor in tensors]
    whole: Tensor = torch.linalg.vector_norm(torch.stack(norms))
    return whole


class Ball(Rule):
    """A projection after every step."""

    Config = BallConfig
    use_when = "an ascent must not run away: it ends at the edge of the ball"

    @torch.no_grad()
    def prepare(self, model: nn.Module, sets: Mapping[str, ExampleSet]) -> None:
        """Keep the start."""
        self._start = {name: p.detach().clone() for name, p in trainable(model).items()}
        whole = float(length([*self._start.values()])) if self.config.relative else 1.0
        self._radius = self.config.radius * whole
        self._distance = 0.0

    @contextmanager
    def around(self, model: nn.Module, phase: Phase, ids: StepIds) -> Iterator[None]:
        """Project what comes out of the update."""
        yield
        self._project(model)

    @torch.no_grad()
    def _project(self, model: nn.Module) -> None:
        parameters = trainable(model)  # what another rule froze since has not moved
        distance = float(length([p - self._start[name] for name, p in parameters.items()]))
        self._distance = min(distance, self._radius)
        if distance > self._radius:
            for name, parameter in parameters.items():
                start = self._start[name]
                parameter.copy_(start + (parameter - start) * (self._radius / distance))

    def diagnostics(self, learning_rate: float) -> dict[str, float]:
        """The distance from the start after the last step, as a share of the radius."""
        return {"filled": self._distance / self._radius if self._radius else 0.0}


RULE = Ball
