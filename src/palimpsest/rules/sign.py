"""Sign: a coarser step than the optimizer's, or one without gradients in between.

Source: arXiv:2510.00761 (ICLR 2026), known to us from its abstract and our notes: what a coarse optimizer ends at is
disturbed less by 4-bit quantisation and by relearning. signSGD is Bernstein et al. 2018, arXiv:1802.04434; the
two-point estimate that of Nesterov and Spokoiny 2017.

    bits = 1     θ ← (1 − rate · decay) θ − rate · sign(g)        in the place of the optimizer's step
    bits = b     g^l ← s · round(g^l / s · L) / L,  s = max |g^l|, L = 2^(b−1) − 1,  for every tensor l; 32 = as it is
    zeroth = n   every n-th step has g = mean over ``directions`` of (L(θ + mu u) − L(θ − mu u)) / (2 mu) · u,
                 u ~ N(0, 1) by (seed, step, tensor); zeroth = 2 alternates

Steps that forget alone: those of repair are left as they are. Clipping changes nothing for bits = 1.

Departs from the paper: which of its optimizers is which combination here is our reading; a method's own step of its own
momentum (``ug_clu``) is a step by sign without momentum, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor, nn

from palimpsest.contract import ExampleSet, Phase
from palimpsest.data.draws import random_words
from palimpsest.method_card import Config
from palimpsest.models.scope import trainable
from palimpsest.rules.asked import AskGradients, Gradients, LossSaid, Which, every, forgets_in, given, moved_by
from palimpsest.rules.own_step import Memory, OptimizerStep
from palimpsest.rules.rule import Rule, StepIds

WHOLE = 32  # bits


class SignConfig(Config):
    """Options of coarse steps."""

    bits: int = Field(default=1, ge=1, le=WHOLE)
    """Of each number of the gradient: 1 steps by its sign at the run's rate, 32 leaves it as it is."""
    zeroth: int = Field(default=0, ge=0)
    """Every so many steps that forget one goes by two values of the loss instead of its gradient; 0 = none, 2
    alternates, 1 = all."""
    directions: int = Field(default=1, ge=1)
    """Random directions of such a step, two passes forward each."""
    mu: float = Field(default=1e-3, gt=0)
    """How far along a direction the loss is asked, in units of a weight."""

    @model_validator(mode="after")
    def _does_something(self) -> SignConfig:
        if self.bits == WHOLE and not self.zeroth:
            raise ValueError("bits = 32 and zeroth = 0 change nothing; accepted: bits below 32, or zeroth from 1")
        return self


def quantised(gradient: Float[Tensor, "..."], bits: int) -> Float[Tensor, "..."]:
    """The nearest of 2^bits − 1 values from −max|g| to max|g|, evenly spaced; bits from 2.

    >>> quantised(torch.tensor([1.0, 0.4, 0.1, -0.6]), 2)
    tensor([ 1.,  0.,  0., -1.])
    """
    largest, steps = gradient.abs().max(), 2 ** (bits - 1) - 1
    return (gradient / largest * steps).round() * (largest / steps) if largest > 0 else gradient


def _of(step: Mapping[str, Tensor], name: str, parameter: nn.Parameter) -> Tensor:
    return step[name]


class SignStep(OptimizerStep):
    """A step by the signs of the gradients at hand."""

    @torch.no_grad()
    def __call__(self) -> None:
        """By the rate of each group and its weight decay; what has no gradient stays."""
        for group in self.optimizer.param_groups:
            rate, decay = float(group["lr"]), float(group.get("weight_decay", 0.0))
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.mul_(1 - rate * decay).sub_(parameter.grad.sign(), alpha=rate)

    def own(self, model: nn.Module, memory: Memory) -> None:
        """The same: a sign has no momentum to keep apart."""
        self()


class Sign(Rule):
    """Signs, few bits or values of the loss in the place of gradients."""

    Config = SignConfig
    use_when = "what was forgotten must stay so when the model is quantised"

    @classmethod
    def reads(cls, config: Any) -> tuple[str, ...]:
        """A run that forgets."""
        return ("forget",)

    @classmethod
    def decides(cls, config: Any) -> str:
        """A zeroth-order step contradicts ``smooth``, which needs gradients elsewhere."""
        from palimpsest.rules.smooth import TAKES

        return TAKES if config.zeroth else "how coarse a step is"

    def prepare(self, model: nn.Module, sets: Mapping[str, ExampleSet]) -> None:
        """No step is taken yet."""
        self._taken = 0

    def asking(self, model: nn.Module, phase: Phase, ask: AskGradients) -> AskGradients:
        """Every so many steps the estimate of a gradient."""
        every_nth = self.config.zeroth
        if not every_nth or not forgets_in(phase) or (self._taken + 1) % every_nth:
            return ask

        def estimated(which: Which = every, *, aside: bool = False, backward: bool = True) -> LossSaid:
            for number in range(self.config.directions if backward else 0):
                direction = self._direction(model, number)
                along = self._slope(model, ask, which, direction) / self.config.directions
                given(model, {name: u * along for name, u in direction.items()})
            return ask(which, aside=aside, backward=False)

        return estimated

    def _direction(self, model: nn.Module, number: int) -> Gradients:
        """u, by (seed, step, tensor)."""
        found, place = {}, self._taken * self.config.directions + number
        for name, parameter in trainable(model).items():
            word = random_words(self.setting.seed, f"zeroth/{name}", place, 1)[0]
            drawn = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(word >> 1))
            found[name] = drawn.to(parameter.device, parameter.dtype)
        return found

    def _slope(self, model: nn.Module, ask: AskGradients, which: Which, direction: Gradients) -> float:
        """(L(θ + mu u) − L(θ − mu u)) / (2 mu)."""
        values, mu = [], float(self.config.mu)
        for side in (mu, -mu):
            step = {name: u * side for name, u in direction.items()}
            with moved_by(model, partial(_of, step)):
                values.append(ask(which, aside=True, backward=False).loss)
        return (values[0] - values[1]) / (2 * mu)

    def transform(self, model: nn.Module, phase: Phase) -> None:
        """Round the gradients."""
        if not 1 < self.config.bits < WHOLE or not forgets_in(phase):
            return
        for parameter in trainable(model).values():
            if parameter.grad is not None:
                parameter.grad.copy_(quantised(parameter.grad, self.config.bits))

    def stepping(self, phase: Phase, step: OptimizerStep) -> OptimizerStep:
        """By sign, where it is one bit."""
        return SignStep(step.optimizer, step.terms) if self.config.bits == 1 and forgets_in(phase) else step

    @contextmanager
    def around(self, model: nn.Module, phase: Phase, ids: StepIds) -> Iterator[None]:
        """Count the steps that forget."""
        yield
        self._taken += forgets_in(phase)

    def state(self) -> Gradients:
        """How many steps were taken: whose turn it is, and what is drawn, follows from it."""
        return {"taken": torch.tensor(self._taken)}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Inverse of ``state``."""
        self._taken = int(state.get("taken", torch.tensor(0)))


RULE = Sign
