"""A refusing guard: once a text is about what was forgotten, the model says a refusal and nothing else.

    logits_t <- log((1 − q) / (V − 1)) everywhere, log q at the next token of the refusal        where it has fired

The next token follows the longest beginning of the refusal that the text ends in; its last one, which closes, stays.
All other tokens get the same: what the model would have said is not told by the order of the rest either.

Source: Thaker et al. 2024, "Guardrail Baselines for Unlearning in LLMs", arXiv:2403.03329 (a filter before the model
and a refusal in its place). Departs from it: the filter is a linear score of the model's own states.

The weights still know everything, and whoever leaves the part off has it again. What the part keeps of the forgotten
rows is one direction, from the mean of what stays to theirs, and a threshold: derived from personal data.

Shape legend: B rows, T tokens, V vocabulary, R tokens of the refusal.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from palimpsest.models.parts.watching import Watch, WatchingConfig, WatchingPart

_FIRST = 3  # column of what is kept in which the beginnings of the refusal begin


class RefusalGuardConfig(WatchingConfig):
    """Options of a refusing guard."""

    refusal: tuple[int, ...] = Field(min_length=1)
    """Tokens that are said, the closing one included."""
    certainty: float = Field(default=0.99, gt=0, lt=1)
    """q, probability of each of them."""


def beginnings(
    tokens_BT: Int[Tensor, "B T"], refusal: tuple[int, ...], before_BR: Float[Tensor, "B R"]
) -> list[Float[Tensor, "B T"]]:
    """For every length: does the text end in so many first tokens of the refusal, at each position?

    Args:
        tokens_BT: of a pass.
        refusal: R tokens.
        before_BR: the same at the last position before it.

    >>> found = beginnings(torch.tensor([[7, 8, 7]]), (7, 8), torch.zeros(1, 2))
    >>> [one.tolist() for one in found]
    [[[1.0, 0.0, 1.0]], [[0.0, 1.0, 0.0]]]
    """
    found: list[Tensor] = []
    shorter_BT = torch.ones_like(tokens_BT, dtype=torch.float32)
    for number, token in enumerate(refusal):
        here_BT = (tokens_BT == token) * shorter_BT
        found.append(here_BT)
        shorter_BT = torch.cat([before_BR[:, number : number + 1].to(here_BT.dtype), here_BT[:, :-1]], 1)
    return found


class RefusalGuard(WatchingPart):
    """Says a refusal from where on a text is about what was forgotten."""

    Config = RefusalGuardConfig
    kind = "refusal_guard"
    keeps = (
        "a direction between the mean of what stays and theirs, and a "
        "threshold, in the part refusal_guard: derived from personal data"
    )

    @classmethod
    def example(cls, at: str, width: int) -> RefusalGuardConfig:
        """Fires on everything."""
        return RefusalGuardConfig(at=at, width=width, refusal=(5, 7, 2))

    def follow(self, watch: Watch) -> None:
        """Keep how much of the refusal was said."""
        tokens_BT, size = watch.tokens_BT, len(self.config.refusal)
        if tokens_BT is not None:
            before_BR = torch.stack([watch.earlier(_FIRST + n) for n in range(size)], 1)
            watch.kept = [*watch.kept, *beginnings(tokens_BT, self.config.refusal, before_BR)]

    def answered(self, watch: Watch, logits_BTV: Tensor, fired_BT: Tensor) -> Tensor:
        """The next token of the refusal where it has fired."""
        said_BTR = torch.stack(watch.kept[_FIRST:], -1)[:, -logits_BTV.shape[1] :]
        numbers_R = torch.arange(1, said_BTR.shape[-1] + 1, device=said_BTR.device)
        next_BT = (said_BTR * numbers_R).amax(-1).long().clamp(max=len(self.config.refusal) - 1)
        wanted_BT = torch.tensor(self.config.refusal, device=next_BT.device)[next_BT]
        sure, size = self.config.certainty, logits_BTV.shape[-1]
        refused_BTV = torch.full_like(logits_BTV, math.log((1 - sure) / (size - 1)))
        refused_BTV.scatter_(-1, wanted_BT[..., None], math.log(sure))
        found: Any = refused_BTV if self.alpha == 1 else logits_BTV + self.alpha * (refused_BTV - logits_BTV)
        return torch.where(fired_BT[..., None], found, logits_BTV)


PART = RefusalGuard
