"""Retraining, the gold standard: start again from the base model and learn everything but the forget set.

Source: the definition of exact unlearning, e.g. Bourtoule et al. 2021, "Machine Unlearning", arXiv:1912.03817, §III.

    L = − mean log p(retain tokens) − replay_weight · mean log p(replay tokens),   started from the base model

Departs from the paper: one run with the seed of the plan; several seeds sample the paper's distribution over runs.
Official code: none.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field
from torch import nn

from palimpsest.contract import Config, Method, Phase, Terms
from palimpsest.data.encode.batch import Batch
from palimpsest.terms import likelihood_together


class RetrainConfig(Config):
    """Options of retraining; use those of the learning run it stands in for."""

    replay_weight: float = Field(default=1.0, ge=0)
    """Factor of the replay term, as in ``finetune``."""


class Retrain(Method):
    """Maximum likelihood on the retain set (and replay) from the base model; the forget set is never shown."""

    Config = RetrainConfig
    use_when = (
        "you can pay for training again: nothing else forgets for certain. "
        "Not without the base model and all that must stay; it costs a whole training."
    )
    approach = "retraining"
    yardstick = True
    needs = ("retain",)
    uses = ("replay",)
    starts_from = "base"

    def loss(self, model: nn.Module, batches: Mapping[str, Batch], phase: Phase) -> Terms:
        """Token means of the negative log-likelihood."""
        return likelihood_together(model, batches, {"retain": 1.0, "replay": self.config.replay_weight})


METHOD = Retrain
