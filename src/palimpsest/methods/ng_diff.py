"""Normalised gradient difference (NGDiff): ascent and descent of equal size in every step.

Source: Bu et al. 2024, "Unlearning as multi-task optimization: A normalized gradient difference approach with an
adaptive learning rate", arXiv:2410.22086 (NAACL 2025); the direction as the project's notes have it.

    g ← alpha · g_R/‖g_R‖ − gamma · g_F/‖g_F‖,   g_R, g_F gradients of the mean loss on retain and on forget

Norms are over all parameters that may move. However large one loss has grown, neither side outvotes the other: with
gamma = alpha = 1 and c the cosine between both gradients a small step along −g lowers the retain loss by 1 − c and
raises the forget loss by as much, each in units of its own gradient.

Departs from the paper: its adaptive rate (GeN) is left out; the rate is the run's, which a controlled run finds. The
two factors are ours, 1 in the paper.
Official code: none read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from palimpsest.contract import Config, ExampleSet, Method, Phase, Terms
from palimpsest.data.encode.batch import Batch
from palimpsest.models.scope import trainable
from palimpsest.terms import likelihood

_PHASES = (Phase("away", ("forget",), update=False), Phase("both", ("retain",), max_grad_norm=0.0))


class NGDiffConfig(Config):
    """Options of NGDiff."""

    gamma: float = Field(default=1.0, ge=0)
    """Length of the ascent in a step; 1 in the paper."""
    alpha: float = Field(default=1.0, gt=0)
    """Length of the descent in a step; 1 in the paper."""


def unit_factor(gradients: Sequence[Float[Tensor, "..."]]) -> float:
    """What some gradients are multiplied by so that their common L2 norm is 1; 0 where it is 0.

    >>> import torch
    >>> round(unit_factor([torch.tensor([3.0]), torch.tensor([[4.0]])]), 4)
    0.2
    """
    norm = float(torch.stack([g.float().norm() for g in gradients]).norm()) if gradients else 0.0
    return 1 / norm if norm > 0 else 0.0


class NGDiff(Method):
    """One step by the difference of the two unit gradients."""

    Config = NGDiffConfig
    use_when = (
        "grad_diff is wanted without weighing its two sides by hand. "
        "Not where forward and backward passes count: both gradients stand in memory at once."
    )
    approach = "ascent"
    needs = ("forget", "retain")
    defaults = {"learning_rate": 1e-5}

    def prepare(self, model: nn.Module, sets: Mapping[str, ExampleSet]) -> nn.Module:
        """No gradient is kept yet."""
        self._away: dict[str, Tensor] = {}
        return super().prepare(model, sets)

    def phases(self, step: int, planned: int) -> Sequence[Phase]:
        """Look at the forget gradient, then step by both."""
        return _PHASES

    def loss(self, model: nn.Module, batches: Mapping[str, Batch], phase: Phase) -> Terms:
        """Token mean of the loss on the set of the phase."""
        return likelihood(model, batches)

    def transform(self, model: nn.Module, phase: Phase) -> None:
        """Keep the forget gradient; make the retain gradient the difference of the units."""
        moving = trainable(model)
        found = {name: p.grad for name, p in moving.items() if p.grad is not None}
        if not phase.update:
            self._away = {name: gradient.clone() for name, gradient in found.items()}
            return
        back = self.config.alpha * unit_factor(list(found.values()))
        away = self.config.gamma * unit_factor(list(self._away.values()))
        for name, p in moving.items():
            if p.grad is not None:
                p.grad.mul_(back)
            if name in self._away:
                ascent = self._away[name].mul_(-away)
                p.grad = ascent if p.grad is None else p.grad.add_(ascent)
        self._away = {}


METHOD = NGDiff
