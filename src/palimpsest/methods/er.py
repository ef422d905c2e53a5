"""Experience replay (ER): learn new examples beside a memory of earlier ones.

Source: Chaudhry et al. 2019, "On Tiny Episodic Memories in Continual Learning", arXiv:1902.10486, and Rolnick et al.
2019, "Experience Replay for Continual Learning", arXiv:1811.11682.

    L = − mean log p(learn tokens) − memory_weight · mean log p(memory tokens)

The memory is the retain set, the replay set or both, each with its own mean; without either this is fine-tuning.

Departs from the paper: the memory is given and does not change within a run (``data/memory/replay.py`` fills it between
requests); there the new examples enter it as they pass by.
Official code: github.com/aimagelab/mammoth (MIT), models/er.py; takes one mean over the joint batch, so that the factor
of the memory is the ratio of the two batch sizes.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field
from torch import nn

from palimpsest.contract import Config, Method, Phase, Terms
from palimpsest.data.encode.batch import Batch
from palimpsest.terms import likelihood_together


class ERConfig(Config):
    """Options of experience replay."""

    memory_weight: float = Field(default=1.0, ge=0)
    """Factor of the loss on the memory; with batches of equal size the paper's value is 1."""


class ER(Method):
    """Maximum likelihood on the learn set and on the memory."""

    Config = ERConfig
    use_when = (
        "you learn new rows and kept some earlier ones; the simplest way. "
        "Not without a memory (--retain or --replay): then it is plain fine-tuning."
    )
    approach = "continual"
    kinds = ("learn",)
    needs = ("learn",)
    uses = ("retain", "replay")

    def loss(self, model: nn.Module, batches: Mapping[str, Batch], phase: Phase) -> Terms:
        """Token means of the negative log-likelihood."""
        weights = {name: 1.0 if name == "learn" else self.config.memory_weight for name in batches}
        return likelihood_together(model, batches, weights)


METHOD = ER
