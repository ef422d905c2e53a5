"""Dark experience replay (DER++): learn beside a memory whose labels and logits are both rehearsed.

Source: Buzzega et al. 2020, "Dark Experience for General Continual Learning: a Strong, Simple Baseline",
arXiv:2004.07211, the objective of DER++ in its section 3.

    L = − mean log p(learn tokens) + alpha · mean ‖z_ref − z‖² / V − beta · mean log p(memory tokens)

z are the logits at the memory's positions, V of them each; the memory is the retain set, the replay set or both.

Departs from the paper: z_ref are the logits of the model at the start of the request; there they are recorded as each
example is first learned and kept, so that they would carry what was unlearned since. One draw from the memory serves
both terms, where the paper draws twice. The memory does not change within a run.
Official code: github.com/aimagelab/mammoth (MIT), models/derpp.py; like here it divides the squared distance by the
number of logits, which the paper's equation does not.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field
from torch import nn

from palimpsest.contract import Config, Method, Phase, Term, Terms
from palimpsest.data.encode.batch import Batch, predict_together
from palimpsest.models.divergence import logit_distance


class DERppConfig(Config):
    """Options of DER++."""

    alpha: float = Field(default=0.5, ge=0)
    """Factor of the logit distance on the memory; the paper tunes it between 0.1 and 1. 0 is experience replay."""
    beta: float = Field(default=1.0, ge=0)
    """Factor of the loss on the memory's labels; the paper tunes it between 0.5 and 1. 0 is DER."""


class DERpp(Method):
    """Maximum likelihood on learn and memory, and the memory's logits held where they were."""

    Config = DERppConfig
    use_when = (
        "you learn new rows and kept some earlier ones. "
        "Not without a memory (--retain or --replay): then it is plain fine-tuning. Half of its rehearsal is on "
        "the answers of the model before, so it also keeps the errors of those."
    )
    approach = "continual"
    kinds = ("learn",)
    needs = ("learn",)
    uses = ("retain", "replay")
    reference_sets = frozenset({"retain", "replay"})

    def loss(self, model: nn.Module, batches: Mapping[str, Batch], phase: Phase) -> Terms:
        """Token means; without a memory this is fine-tuning."""
        terms = {}
        for name, said in predict_together(model, batches).items():
            terms[name] = Term(-said.logp_S.sum(), of=name, weight=1.0 if name == "learn" else self.config.beta)
            if name != "learn":
                distance = logit_distance(self.recall(model, batches[name]).logits_SV, said.logits_SV).sum()
                terms[f"{name}_logits"] = Term(distance, of=name, weight=self.config.alpha)
        return terms


METHOD = DERpp
