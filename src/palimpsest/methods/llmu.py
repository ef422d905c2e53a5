"""LLMU: ascent on what must go, random answers to its questions, and the model before on what stays.

Source: Yao et al. 2023, "Large Language Model Unlearning", arXiv:2310.10683, its three-part update.

    L = forget_weight · mean log p(forget tokens)
        − random_weight · mean log p(random answer | question of a forget row)
        + retain_weight · mean KL( p_ref(·|retain prefix) ‖ p(·|retain prefix) )

The random answers are made by the run (``derived/mismatched.py``): of another row, one of retain. They give what is
asked a place to go, so that ascent need not end in noise.

Departs from the paper: each row has one random answer for the whole run, where the code draws several anew in each
step; they are those of retain rows, where it takes another data set's. The KL is taken at label positions only.
Official code: github.com/kevinyaobytedance/llm_unlearn (MIT): factors 0.5, 1 and 1, rate 2e-6; it ends where the forget
loss has passed a bound, which here is the run's stopping.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field
from torch import nn

from palimpsest.contract import Config, Method, Phase, Term, Terms
from palimpsest.data.encode.batch import Batch
from palimpsest.models.divergence import kl_divergence


class LLMUConfig(Config):
    """Options of LLMU."""

    forget_weight: float = Field(default=0.5, ge=0)
    """Factor of the ascent; 0.5 in the code."""
    random_weight: float = Field(default=1.0, ge=0)
    """Factor of the random answers; 1 in the code."""
    retain_weight: float = Field(default=1.0, ge=0)
    """Factor of the divergence from the model before; 1 in the code."""


class LLMU(Method):
    """Ascend on forget, learn random answers to its questions, stay close to the model before on retain."""

    Config = LLMUConfig
    use_when = (
        "harmful answers must go and any other will do in their place. "
        "Not where answers should look unlearned: they become those of other rows, which an attack can see."
    )
    approach = "ascent"
    needs = ("forget", "mismatched", "retain")
    reference_sets = frozenset({"retain"})
    paired = {"mismatched": "forget"}
    defaults = {"learning_rate": 2e-6}

    def loss(self, model: nn.Module, batches: Mapping[str, Batch], phase: Phase) -> Terms:
        """Token means of the three parts."""
        known = batches["forget"].predict(model).logp_S.sum()
        answered = -batches["mismatched"].predict(model).logp_S.sum()
        said_SV = batches["retain"].predict(model).logits_SV
        strayed = kl_divergence(self.recall(model, batches["retain"]).logits_SV, said_SV).sum()
        return {
            "forget": Term(known, of="forget", weight=self.config.forget_weight),
            "random": Term(answered, of="mismatched", weight=self.config.random_weight),
            "kl": Term(strayed, of="retain", weight=self.config.retain_weight),
        }


METHOD = LLMU
