"""JensUn: bring the answers to a refusal, and keep what stays, by the Jensen-Shannon divergence, which is bounded.

Source: Singh et al. 2025, "Unlearning That Lasts: Utility-Preserving, Robust, and Almost Irreversible Forgetting in
LLMs", arXiv:2509.02820, known here by its abstract and summaries.

    L = forget_weight · mean JSD( p ‖ onehot(y) ) at the refusal tokens y
        + retain_weight · mean JSD( p ‖ p_ref ) at the retain tokens
    JSD(p ‖ q) = ½ KL(p ‖ m) + ½ KL(q ‖ m),  m = (p + q)/2
    JSD(p ‖ onehot(y)) = log 2 + ½ [p log p − (1 + p) log(1 + p)] with p = p(y)

Both terms are between 0 and log 2, and the gradient by the logit of y is ½ p (1 − p) · log[p/(1 + p)]: it vanishes when
the refusal is learned, so that nothing can blow up, and it is small where the refusal is still far away. The refusals
are made by the run (``derived/refusal.py``). The forget rows only say whose turn it is.

Departs from the paper: several refusals instead of one fixed string (``derived.refusal.sentences`` gives one); both
factors are 1, the paper's were not at hand. Means are over the refusal's tokens; the public variant sums over all
positions, prompt and padding with them, against a uniform target.
Official code: github.com/nmndeep/open-unlearning (MIT) has variants of it, with the forget factor fixed at 0.2.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from palimpsest.contract import Config, Method, Phase, Term, Terms
from palimpsest.data.encode.batch import Batch
from palimpsest.models.divergence import js_divergence


class JensUnConfig(Config):
    """Options of JensUn."""

    forget_weight: float = Field(default=1.0, ge=0)
    """Factor of the refusals (λ_F)."""
    retain_weight: float = Field(default=1.0, ge=0)
    """Factor of the divergence from the model before (λ_R); 0 = no retain term."""


def distance_to_one(logp_S: Float[Tensor, "S"]) -> Float[Tensor, "S"]:
    """JSD to the one-hot distribution of a token, by that token's log-probability, nats; 0 to log 2.

    >>> import torch
    >>> [round(v, 4) for v in distance_to_one(torch.tensor([1.0, 0.5]).log()).tolist()]
    [0.0, 0.2158]
    """
    p_S = logp_S.exp()
    return math.log(2) + 0.5 * (p_S * logp_S - (1 + p_S) * torch.log1p(p_S))


class JensUn(Method):
    """Learn refusals for the questions of the forget set by a bounded loss; stay with the model before on retain."""

    Config = JensUnConfig
    use_when = (
        "a chat model should refuse, by a loss that cannot blow up. "
        "Not where what must go may not be drawn out: behind a refusal the answers stay."
    )
    approach = "distillation"
    needs = ("forget", "refusal")
    uses = ("retain",)
    by_id = ("forget",)
    reference_sets = frozenset({"retain"})
    paired = {"refusal": "forget"}
    defaults = {"learning_rate": 1e-5}

    def loss(self, model: nn.Module, batches: Mapping[str, Batch], phase: Phase) -> Terms:
        """Token means of both divergences."""
        refused = distance_to_one(batches["refusal"].predict(model).logp_S).sum()
        terms = {"refusal": Term(refused, of="refusal", weight=self.config.forget_weight)}
        if "retain" in batches:
            said_SV = batches["retain"].predict(model).logits_SV
            kept = js_divergence(self.recall(model, batches["retain"]).logits_SV, said_SV).sum()
            terms["retain"] = Term(kept, of="retain", weight=self.config.retain_weight)
        return terms


METHOD = JensUn
