"""Fine-tuning: learn new examples, with optional replay of earlier or general ones.

Source: the usual maximum-likelihood training; replay after Robins 1995, "Catastrophic forgetting, rehearsal and
pseudorehearsal", Connection Science 7(2).

    L = − mean log p(learn tokens) − replay_weight · mean log p(replay tokens)

Departs from the paper: replayed examples are real ones, given by the caller, not pseudo-items.
Official code: none.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field
from torch import nn

from palimpsest.contract import Config, Method, Phase, Terms
from palimpsest.data.encode.batch import Batch
from palimpsest.terms import likelihood_together


class FinetuneConfig(Config):
    """Options of fine-tuning."""

    replay_weight: float = Field(default=1.0, ge=0)
    """Factor of the replay term; without replay a small model forgets everything else."""


class Finetune(Method):
    """Maximum likelihood on the learn set, and on the replay set when there is one."""

    Config = FinetuneConfig
    use_when = (
        "you want to learn new rows; the usual one. Add --replay to keep the rest. "
        "Not to forget; and alone, without --replay, a small model loses what else it knew."
    )
    approach = "continual"
    kinds = ("learn",)
    needs = ("learn",)
    uses = ("replay",)

    def loss(self, model: nn.Module, batches: Mapping[str, Batch], phase: Phase) -> Terms:
        """Token means of the negative log-likelihood."""
        return likelihood_together(model, batches, {"learn": 1.0, "replay": self.config.replay_weight})


METHOD = Finetune
