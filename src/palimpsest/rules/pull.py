"""Pull: after every step the weights are drawn a part of the way back, to where the run started or to their own mean.

Source: after MOS, Sun et al. 2024, "MOS: Model Surgery for Pre-Trained Model-Based Class-Incremental Learning",
arXiv:2412.09441, which draws a task's adapter to the mean of the earlier ones after every step.

    θ ← θ + factor (a − θ),   θ = update(θ)
    start   a = the weights that the run starts from
    mean    a ← memory · a + (1 − memory) θ first, at the start of the run a = θ

Departs from the paper: a is of this run, and of all weights that may move.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from palimpsest.contract import ExampleSet, Phase
from palimpsest.method_card import Config
from palimpsest.models.scope import trainable
from palimpsest.rules.rule import Rule, StepIds


class PullConfig(Config):
    """Options of the pull."""

    factor: float = Field(default=0.1, gt=0, lt=1)
    """Share of the way back after every step; MOS has 0.1."""
    towards: Literal["start", "mean"] = "start"
    """The weights from before the run, or their own running mean."""
    memory: float = Field(default=0.99, ge=0, lt=1)
    """Of the running mean: what is kept of it at every step."""


class Pull(Rule):
    """A step back after every step."""

    Config = PullConfig
    use_when = "a run drifts: far weights come back unless the loss holds them there"

    @classmethod
    def decides(cls, config: Any) -> str:
        """A run may be pulled to both, to each by one rule."""
        return f"how hard the weights are pulled to the {config.towards}"

    def prepare(self, model: nn.Module, sets: Mapping[str, ExampleSet]) -> None:
        """Keep the start: one more copy of what may move."""
        self._anchor = {name: p.detach().clone() for name, p in trainable(model).items()}

    @contextmanager
    def around(self, model: nn.Module, phase: Phase, ids: StepIds) -> Iterator[None]:
        """Pull at what comes out of the update."""
        yield
        self._pull(model)

    @torch.no_grad()
    def _pull(self, model: nn.Module) -> None:
        for name, parameter in trainable(model).items():
            anchor = self._anchor[name] = self._anchor[name].to(parameter.device)  # a resumed run reads it elsewhere
            if self.config.towards == "mean":
                anchor.lerp_(parameter, 1 - self.config.memory)
            parameter.lerp_(anchor, self.config.factor)

    def state(self) -> dict[str, Tensor]:
        """The running mean; the start is found again."""
        return dict(self._anchor) if self.config.towards == "mean" else {}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Inverse of ``state``."""
        self._anchor |= {name: tensor.clone() for name, tensor in state.items()}


RULE = Pull
