"""Elastic weight consolidation (EWC): learn while a spring holds each weight that the memory depends on.

Source: Kirkpatrick et al. 2017, "Overcoming catastrophic forgetting in neural networks", arXiv:1612.00796, Eq. 3.

    L   = − mean log p(learn tokens) + (lambda / 2) · Σ_j F_j (θ_j − θ*_j)²
    F_j = Σ_i Σ_t Σ_y p(y) (∂ log p(y) / ∂θ_j)² / Σ_i T_i at θ*,   p at scored position t of T_i of example i

θ* are the weights the request starts from, i runs over the memory, the retain set. So it is fine-tuning under the rule
``spring``; how F is taken is in ``rules/fisher.py``. The spring enters as its exact gradient, beside that of the loss
and before clipping; its energy is logged.

Departs from the paper: one spring for all that is in the memory, so that what was unlearned since leaves none behind;
the paper has one for each earlier task. The memory is not rehearsed; without one (a first task) this is fine-tuning.
Official code: none; CLPU's and mammoth's ewc_on.py multiply the empirical square by exp(−nll) and omit the factor 1/2.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field
from torch import nn

from palimpsest.contract import Config, Method, Phase, Terms
from palimpsest.data.encode.batch import Batch
from palimpsest.rules.spring import Spring, SpringConfig
from palimpsest.terms import likelihood


class EWCConfig(Config):
    """Options of EWC."""

    strength: float = Field(default=100.0, ge=0)
    """lambda; 0 is fine-tuning, CLPU's study has 100 to 1000. Being diagonal, F misses most of the curvature: 1 is far
    too weak. Plain gradient descent diverges where the logged ``stiffness`` is above 2."""
    fisher_examples: int = Field(default=256, ge=1)
    """At most so many examples of the memory, drawn at random, make the Fisher: one backward pass each."""
    labels: Literal["model", "data"] = "model"
    """Whose labels the Fisher is taken at: the model's own answers, as it is defined, or the memory's."""
    draws: int = Field(default=4, ge=1)
    """Labels drawn at each position where there are too many to sum over: one backward pass each."""


class EWC(Method):
    """Maximum likelihood on the learn set; the retain set only says which weights must stay."""

    Config = EWCConfig
    use_when = (
        "you learn new rows and may look at earlier ones, not train on them. "
        "Not where you may train on them: then rehearse them (er). Its strength has to be tried out."
    )
    approach = "continual"
    kinds = ("learn",)
    needs = ("learn",)
    uses = ("retain",)

    def rules(self) -> tuple[Spring]:
        """The springs of the memory; none where there is no memory."""
        config: EWCConfig = self.config
        options = config.model_dump(include={"strength", "labels", "draws"})
        return (Spring(SpringConfig(of="retain", examples=config.fisher_examples, **options)),)

    def phases(self, step: int, planned: int) -> tuple[Phase, ...]:
        """The learn set alone."""
        return (Phase("learn", ("learn",)),)

    def loss(self, model: nn.Module, batches: Mapping[str, Batch], phase: Phase) -> Terms:
        """Token mean of the negative log-likelihood."""
        return likelihood(model, batches)


METHOD = EWC
