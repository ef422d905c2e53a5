"""Negated: a run learns, and what is looked at and saved is the same way in the other direction.

    settle:  θ ← θ₀ − a · (θ_t − θ₀)          reopen:  θ ← θ_t

θ_t is what the steps came to, θ₀ the weights that the run started from. Of an adapter the product is negated, not the
factors: its second matrix, zero at the start, becomes −a times itself and its first one stays. No rule of the registry:
a method has it, whose steps teach what must go.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from palimpsest.contract import ExampleSet, Phase
from palimpsest.models.scope import trainable
from palimpsest.rules.damage_budget import Damage, LinePoint, WeightLine
from palimpsest.rules.rule import Rule, StepIds

FIRST, SECOND = "lora_A", "lora_B"
Measure = Callable[[Mapping[str, ExampleSet]], Damage]


def line_away(before: Mapping[str, Tensor], learned: Mapping[str, Tensor]) -> WeightLine:
    """The line from before away from what was learned: at −1 it is what was learned, at 0 what was before.

    Args:
        before: θ₀ by name.
        learned: θ_t by name; copies.
    """
    adapted = any(SECOND in name for name in learned)
    kept = {name for name in learned if adapted and FIRST in name}
    start = {name: learned[name] if name in kept else before[name] for name in learned}
    return WeightLine(start, {name: learned[name].float() - start[name].float() for name in learned})


class Negated(Rule):
    """The way that was learned, gone backwards whenever the weights are looked at."""

    place = "watches"

    def __init__(self, size: float | None, budget: float, damage: Measure) -> None:
        """The rule of one run.

        Args:
            size: a; None = as far as the budget lets.
            budget: of damage, nats per position.
            damage: what measures it, of the sets of the run.
        """
        super().__init__()
        self._size, self._budget, self._measure = size, budget, damage
        self.found: LinePoint | None = None

    def prepare(self, model: nn.Module, sets: Mapping[str, ExampleSet]) -> None:
        """Keep θ₀: a copy of what may move."""
        self._before = _copies(model)
        self._damage = self._measure(sets) if self._size is None else None
        self._learned: dict[str, Tensor] = {}

    def around(self, model: nn.Module, phase: Phase, ids: StepIds) -> AbstractContextManager[None]:
        """A step teaches: nothing to do."""
        return nullcontext()

    def settle(self, model: nn.Module) -> None:
        """Go the other way, and keep what was learned beside it; where nothing was there is no way."""
        learned = _copies(model)
        if self._learned or not any(not torch.equal(learned[name], self._before[name]) for name in learned):
            return
        self._learned = learned
        line = line_away(self._before, learned)
        if self._damage is None:
            line.put(model, self._size or 0.0)
        else:
            self.found = line.go_within(model, self._damage, self._budget)

    @torch.no_grad()
    def reopen(self, model: nn.Module) -> None:
        """Back to what was learned."""
        for name, parameter in trainable(model).items() if self._learned else ():
            parameter.copy_(self._learned[name])
        self._learned = {}

    def state(self) -> dict[str, Tensor]:
        """What was learned, while its negative is in its place."""
        return dict(self._learned)

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Inverse of ``state``."""
        self._learned = dict(state)


def _copies(model: nn.Module) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in trainable(model).items()}
