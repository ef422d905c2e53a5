"""Iterative contrastive unlearning (ICU).

Source: Tang, Liu et al., "Learn while Unlearn: An Iterative Unlearning Framework for Generative Language Models",
arXiv:2407.20271v5, the loss of its section on the framework: L = L_fgt + α·L_lrn + β·L_kl.

    L_fgt = + mean log p(forget tokens)                                knowledge unlearning induction
    L_lrn = − mean log p(analogous tokens)                             contrastive learning enhancement
    L_kl  =   mean KL( p_ref(·|analogous prefix) ‖ p(·|analogous prefix) )
    L     = L_fgt + alpha · L_lrn + beta · L_kl

The third module, iterative refinement, is the run's stopping (``--refine``); the analogous set is built before the run
(``derived/nearest.py``): the nearest retain-side neighbour of each forget example.

The joint step protects only the neighbours it sees; what keeps the rest is the run's repair (``loop/repair.py``).

Departs from the paper: token means where the paper has sums (as its code); a true KL at label positions, where the
code has a cross-entropy over all positions, padding and the last one included (``divergence="cross_entropy"`` gives its
value without the padding: same gradient). Optional terms that are 0 by default and not in the paper: ``retain_weight``.
Official code: github.com/himalalps/ICU@bb776e3, MIT; one batch whose rows all passed still moves the weights through
Adam's momentum there, here such a step does not exist.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from palimpsest.contract import Config, Method, Phase, Term, Terms
from palimpsest.data.encode.batch import Batch
from palimpsest.models.divergence import kl_divergence, soft_cross_entropy


class ICUConfig(Config):
    """Options of ICU."""

    RETIRED = {
        "repair_steps": "repair is the run's now, of any method: leave it out (a run that finds its own rate repairs "
        "by itself), or give repair.steps beside a fixed rate"
    }

    alpha: float = Field(default=0.5, ge=0)
    """Factor of learning on the analogous set; the paper's default is 0.5."""
    beta: float = Field(default=1.0, ge=0)
    """Factor of the divergence from the reference on the analogous set; the paper's default is 1."""
    divergence: Literal["kl", "cross_entropy"] = "kl"
    """"kl" as in the paper; "cross_entropy" logs the published code's value (the KL plus the reference's entropy)."""
    retain_weight: float = Field(default=0.0, ge=0)
    """Factor of a plain loss on random retain examples within the joint step; 0 is the paper."""


def forget_loss(logp_S: Float[Tensor, "S"]) -> Float[Tensor, ""]:
    """L_fgt: log-likelihood of the forget tokens, summed, nats."""
    return logp_S.sum()


def learn_loss(logp_S: Float[Tensor, "S"]) -> Float[Tensor, ""]:
    """L_lrn: negative log-likelihood of the analogous tokens, summed, nats."""
    return -logp_S.sum()


class ICU(Method):
    """Unlearn each forget example while learning, and staying close to the reference, on its analogous example."""

    Config = ICUConfig
    use_when = (
        "texts must go and others stay; the usual one for texts. "
        "Not for images. All subjects and tenths it was shown passed; a single row fails nearly half the time, as "
        "with every method."
    )
    approach = "ascent"
    needs = ("forget", "analogous")
    uses = ("retain",)
    reference_sets = frozenset({"analogous"})
    paired = {"analogous": "forget"}
    defaults = {"learning_rate": 5e-6, "batch_size": 8, "betas": (0.9, 0.98), "weight_decay": 0.0, "max_grad_norm": 0.0}

    def phases(self, step: int, planned: int) -> tuple[Phase, ...]:
        """One joint step, which the retain set joins only when it has a weight."""
        return (Phase("joint", tuple(s for s in self.sets if s != "retain" or self.config.retain_weight > 0)),)

    def loss(self, model: nn.Module, batches: Mapping[str, Batch], phase: Phase) -> Terms:
        """The three terms, token means, and the plain loss on retain where it has a weight."""
        # The order is for memory: backward goes in reverse and meets the divergence, which holds the reference, first.
        forgotten = forget_loss(batches["forget"].predict(model).logp_S)
        analogous = batches["analogous"].predict(model)
        learned = learn_loss(analogous.logp_S)
        reference = self.recall(model, batches["analogous"])
        measure = kl_divergence if self.config.divergence == "kl" else soft_cross_entropy
        divergence = measure(reference.logits_SV, analogous.logits_SV).sum()
        terms = {
            "forget": Term(forgotten, of="forget"),
            "learn": Term(learned, of="analogous", weight=self.config.alpha),
            "kl": Term(divergence, of="analogous", weight=self.config.beta),
        }
        if "retain" in batches:
            retained = learn_loss(batches["retain"].predict(model).logp_S)
            terms["retain"] = Term(retained, of="retain", weight=self.config.retain_weight)
        return terms


METHOD = ICU
