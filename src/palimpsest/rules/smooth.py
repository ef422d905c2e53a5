"""Smooth: a step that forgets where the loss is flat, so that a few steps of relearning do not find the way back.

Source: Fan et al. 2025, "Towards LLM Unlearning Resilient to Relearning Attacks: A Sharpness-Aware Minimization
Perspective and Beyond", arXiv:2502.05374 (ICML 2025), known to us from our notes on its code; SAM is Foret et al. 2021,
arXiv:2010.01412.

    sam    g = ∇L_f(θ + ε) + ∇L_r(θ),   ε = rho · ∇L_f(θ) / ‖∇L_f(θ)‖      norm over all weights that may move
    rs     g = mean over ``draws`` of ∇L_f(θ + δ) + ∇L_r(θ),   δ^l ~ N(0, (rho · rms(θ^l))²)  for every tensor l
    wa     what is measured and saved is the mean of the weights after the last ``last`` steps, about:
           a_t = a_{t−1} + (θ_t − a_{t−1}) / min(t, last)

L_f are the terms of the objective over sets to forget, and over what is said in their place; L_r are all others. A step
without such terms, as one of repair, is left as it is. SAM costs three passes where there was one, rs ``draws`` + 1.

Departs from the paper: the noise of rs is relative to the size of each tensor (one absolute deviation is nothing for
some and all for others), and its mean is over draws of one step; wa forgets the oldest steps, because a controlled run
has hundreds. A term that is compared with a reference is compared as its method does, never by raw logits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from palimpsest.contract import Phase
from palimpsest.data.draws import random_words
from palimpsest.method_card import Config
from palimpsest.rules.asked import (
    AskGradients,
    Gradients,
    LossSaid,
    Which,
    both,
    every,
    forgets,
    forgets_in,
    given,
    moved_by,
    stays,
    taken,
)
from palimpsest.rules.averaged import DECIDES, Averaged
from palimpsest.rules.ball import length
from palimpsest.rules.rule import Nesting, StepIds

SmoothKind = Literal["sam", "rs", "wa"]
TAKES = "where a step takes its gradient"


class SmoothConfig(Config):
    """Options of smoothness."""

    by: SmoothKind = "sam"
    """"sam" at the worst place near by, "rs" at random places near by, "wa" the mean of the last weights."""
    rho: float = Field(default=0.01, ge=0)
    """How near: of "sam" a distance over all weights, of "rs" a share of each tensor's root mean square; 0 = off."""
    draws: int = Field(default=1, ge=1)
    """Places of "rs" in a step."""
    last: int = Field(default=8, ge=1)
    """Steps that "wa" averages over, about; 1 = the weights."""


def worst_step(gradients: Mapping[str, Tensor], rho: float) -> Gradients:
    """ε: along the gradient, of length rho over all tensors together.

    >>> worst_step({"a": torch.tensor([3.0]), "b": torch.tensor([4.0])}, 0.5)
    {'a': tensor([0.3000]), 'b': tensor([0.4000])}
    """
    whole = length([*gradients.values()]) if gradients else torch.zeros(())
    return {name: g * (rho / whole).to(g.dtype) for name, g in gradients.items()} if whole > 0 else {}


def smoothing_noise(
    name: str, parameter: Float[Tensor, "..."], rho: float, seed: int, number: int
) -> Float[Tensor, "..."]:
    """δ of one tensor: normal, of rho times its root mean square; by (seed, name, number) alone."""
    generator = torch.Generator().manual_seed(random_words(seed, f"smooth/{name}", number, 1)[0] >> 1)
    drawn = torch.randn(parameter.shape, generator=generator)
    size = rho * parameter.detach().float().square().mean().sqrt()
    return drawn.to(parameter.device, parameter.dtype) * size.to(parameter.dtype)


class Smooth(Averaged):
    """SAM, random smoothing or an average of weights, around any objective that forgets."""

    Config = SmoothConfig
    use_when = "what was forgotten must not come back by a few steps of relearning"

    @property
    def nesting(self) -> Nesting:
        """An average watches; the other two make gradients."""
        return "watches" if self.config.by == "wa" else "moves"

    @classmethod
    def reads(cls, config: Any) -> tuple[str, ...]:
        """A run that forgets."""
        return ("forget",)

    @classmethod
    def decides(cls, config: Any) -> str:
        """An average as ``ema``; the others as a zeroth-order step of ``sign``."""
        return DECIDES if config.by == "wa" else TAKES

    @property
    def newest(self) -> float:
        """All of the last steps weigh alike."""
        return 1.0 / min(self._taken, int(self.config.last))

    def asking(self, model: nn.Module, phase: Phase, ask: AskGradients) -> AskGradients:
        """What forgets elsewhere, the rest at the weights at hand."""
        if self.config.by == "wa" or not forgets_in(phase) or not self.config.rho:
            return ask
        elsewhere = self._worst if self.config.by == "sam" else self._random

        def smooth(which: Which = every, *, aside: bool = False, backward: bool = True) -> LossSaid:
            if not backward:
                return ask(which, aside=aside, backward=False)
            before = taken(model)
            found, forgetting = elsewhere(model, lambda: ask(both(which, forgets), aside=True))
            given(model, before)
            given(model, forgetting)
            return found + ask(both(which, stays), aside=aside)

        return smooth

    def _worst(self, model: nn.Module, ask: Callable[[], LossSaid]) -> tuple[LossSaid, Gradients]:
        found = ask()
        step = worst_step(taken(model), self.config.rho)
        with moved_by(model, lambda name, _: step.get(name)):
            ask()
        return found, taken(model)

    def _random(self, model: nn.Module, ask: Callable[[], LossSaid]) -> tuple[LossSaid, Gradients]:
        config = self.config
        for draw in range(config.draws):
            number = self._taken * config.draws + draw
            with moved_by(model, partial(smoothing_noise, rho=config.rho, seed=self.setting.seed, number=number)):
                found = ask()
        return found, {name: gradient / config.draws for name, gradient in taken(model).items()}

    def around(self, model: nn.Module, phase: Phase, ids: StepIds) -> AbstractContextManager[None]:
        """Average, or count."""
        return super().around(model, phase, ids) if self.config.by == "wa" else self._counted()

    @contextmanager
    def _counted(self) -> Iterator[None]:
        yield
        self._taken += 1

    def settle(self, model: nn.Module) -> None:
        """Only where there is an average."""
        if self.config.by == "wa":
            super().settle(model)


RULE = Smooth
