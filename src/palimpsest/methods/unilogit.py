"""Unilogit: distil the model from itself, with the right token's probability set to 1/V.

Source: Vasilev et al. 2025, "Unilogit: Robust Machine Unlearning for LLMs Using Uniform-Target Self-Distillation",
arXiv:2505.06027 (Findings of ACL 2025); known here by its abstract and its first figure, which names the direction of
the divergence. The logit below follows from the definition.

    L = gamma · mean KL( p ‖ q ) at the forget tokens − alpha · mean log p(retain tokens)
    q = softmax(z*) without a gradient,   z*_y = log Σ_{j≠y} exp z_j − log(V − 1),   z*_j = z_j elsewhere

z are the model's own logits of this step, so q(y) = 1/V exactly and all others keep their proportions. No temperature,
no reference; the loss is 0 once every right token is at 1/V. It is p log(pV) + (1 − p) log[(1 − p) V/(V − 1)] of the
right token's p, whose gradient by the logits is p (1 − p) · log[p (V − 1)/(1 − p)] and vanishes at p = 1, too.

Departs from the paper: the retain term is the likelihood, with a factor; which one the paper takes was not read.
Official code: none found.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn

from palimpsest.contract import Config, Method, Phase, Term, Terms
from palimpsest.data.encode.batch import Batch
from palimpsest.models.divergence import reverse_divergence
from palimpsest.terms import likelihood


class UnilogitConfig(Config):
    """Options of Unilogit."""

    gamma: float = Field(default=1.0, ge=0)
    """Factor of the distillation."""
    alpha: float = Field(default=1.0, ge=0)
    """Factor of the retain term; 0 is the distillation alone."""


def uniform_target(logits_SV: Float[Tensor, "S V"], target_S: Int[Tensor, "S"]) -> Float[Tensor, "S V"]:
    """The logits with that of the right token replaced so that its probability is 1/V; fp32, without a gradient.

    Args:
        logits_SV: of the model, V >= 2.
        target_S: the right tokens.

    >>> import torch
    >>> uniform_target(torch.tensor([[9.0, 1.0, 1.0]]), torch.tensor([0])).softmax(-1)
    tensor([[0.3333, 0.3333, 0.3333]])
    """
    logits_SV, right_S1 = logits_SV.detach().float(), target_S[:, None]
    others_S1 = logits_SV.scatter(1, right_S1, -math.inf).logsumexp(-1, keepdim=True)
    return logits_SV.scatter(1, right_S1, others_S1 - math.log(logits_SV.shape[1] - 1))


class Unilogit(Method):
    """Bring the right tokens of forget to chance by the model's own words; descend on retain."""

    Config = UnilogitConfig
    use_when = (
        "texts should end at chance, with no reference and no temperature. "
        "Not where rows are known for certain and steps are few: at p = 1 its gradient is small."
    )
    approach = "distillation"
    needs = ("forget",)
    uses = ("retain",)
    defaults = {"learning_rate": 1e-5}

    def loss(self, model: nn.Module, batches: Mapping[str, Batch], phase: Phase) -> Terms:
        """Token means of the divergence and of the retain loss."""
        said = batches["forget"].predict(model)
        distilled = reverse_divergence(said.logits_SV, uniform_target(said.logits_SV, said.target_S)).sum()
        terms = {"forget": Term(distilled, of="forget", weight=self.config.gamma)}
        return terms | likelihood(model, batches, {"retain": self.config.alpha})


METHOD = Unilogit
