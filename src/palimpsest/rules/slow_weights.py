"""Slow weights: every few steps the run goes back a part of the way to where these steps began.

Source: the Lookahead optimizer, Zhang et al. 2019, arXiv:1907.08610, Alg. 1, around any update.

    every k steps   θ ← φ + alpha (θ − φ),   φ ← θ        φ the slow weights: θ where the cycle began

alpha = 1 changes nothing. What is saved or measured within a cycle is at its slow step, which ends the cycle there; a
cycle that a checkpoint divides goes on. Floating-point buffers, as running statistics, go with the weights.

Departs from the paper: none; the optimizer's moments are left as they are, which it gives as one choice.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from palimpsest.contract import ExampleSet, Phase
from palimpsest.method_card import Config
from palimpsest.rules.fast_slow import SlowWeights
from palimpsest.rules.rule import Rule, StepIds

_TAKEN = "taken"


class SlowWeightsConfig(Config):
    """Options of the slow weights."""

    k: int = Field(default=5, ge=1)
    """Steps of a cycle, those of repair among them."""
    alpha: float = Field(default=0.5, gt=0, le=1)
    """Share of a cycle's way that is kept; 1 = all of it."""


class SlowWeightsRule(Rule):
    """The cycles of a run."""

    Config = SlowWeightsConfig
    use_when = "steps are noisy: what several of them agree on is kept"

    @classmethod
    def decides(cls, config: Any) -> str:
        """As ``ema`` does."""
        return "how the weights of several steps are averaged"

    def prepare(self, model: nn.Module, sets: Mapping[str, ExampleSet]) -> None:
        """No cycle is open."""
        self._slow, self._taken = SlowWeights(self.config.alpha), 0

    @contextmanager
    def around(self, model: nn.Module, phase: Phase, ids: StepIds) -> Iterator[None]:
        """Open a cycle before its first step, close it after its last."""
        self._slow.open(model)
        yield
        self._taken += 1
        if self._taken == self.config.k:
            self.settle(model)

    def settle(self, model: nn.Module) -> None:
        """Take the slow step of an open cycle."""
        self._slow.close(model)
        self._taken = 0

    def state(self) -> dict[str, Tensor]:
        """The slow weights of an open cycle, and its steps."""
        return {**{f"start/{name}": t for name, t in self._slow.start.items()}, _TAKEN: torch.tensor(self._taken)}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Inverse of ``state``."""
        self._taken = int(state.get(_TAKEN, torch.tensor(0)))
        self._slow.start = {name.removeprefix("start/"): t for name, t in state.items() if name != _TAKEN}


RULE = SlowWeightsRule
