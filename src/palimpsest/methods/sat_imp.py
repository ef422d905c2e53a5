"""Saturation and importance (SatImp): ascent in which the tokens between known and lost count most.

Source: Yang et al. 2025, "Exploring Criteria of Loss Reweighting to Enhance LLM Unlearning", arXiv:2505.11953, its
combined weight.

    L = gamma · mean p^beta1 · (1 − p)^beta2 · log p(forget tokens) − alpha · mean log p(retain tokens)
    the weight without a gradient

p^beta1 lets go of what is lost (saturation), (1 − p)^beta2 holds back at what is sure. beta1 = beta2 = 0 is gradient
difference, beta2 = 0 is weighted gradient ascent (``wga``). A token that is known for certain has weight 0: a row
learned to p = 1 in full precision does not move at all.

Departs from the paper: none known; alpha = 0 (or no retain set) is the plain loss.
Official code: github.com/tmlr-group/SatImp, not read; github.com/locuslab/open-unlearning (MIT) has this equation,
beta1 5, beta2 1. Its README has gamma 1 and alpha 0.1, which is taken here, its configuration gamma 0.1 and alpha 1, by
which rows known to the letter hardly move (a controlled run on a small model stalled a third of the way). It copies a
reference model that its loss never asks.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from palimpsest.contract import Config, Method, Phase, Term, Terms
from palimpsest.data.encode.batch import Batch
from palimpsest.terms import likelihood


class SatImpConfig(Config):
    """Options of SatImp."""

    beta1: float = Field(default=5.0, ge=0)
    """Power of p, saturation; 5 in open-unlearning."""
    beta2: float = Field(default=1.0, ge=0)
    """Power of 1 − p, importance; 1 in open-unlearning."""
    gamma: float = Field(default=1.0, ge=0)
    """Factor of the ascent term; 1 in open-unlearning's README, 0.1 in its configuration."""
    alpha: float = Field(default=0.1, ge=0)
    """Factor of the retain term; 0.1 in open-unlearning's README, 1 in its configuration."""


def token_weights(logp_S: Float[Tensor, "S"], beta1: float, beta2: float) -> Float[Tensor, "S"]:
    """p^beta1 · (1 − p)^beta2 of each token, without a gradient; 0^0 = 1.

    Args:
        logp_S: log-probability of each label token, nats.
        beta1: power of p, >= 0.
        beta2: power of 1 − p, >= 0.

    >>> import torch
    >>> token_weights(torch.tensor([0.5]).log(), beta1=1.0, beta2=1.0).item()
    0.25
    """
    lost_S = -torch.expm1(logp_S.detach())  # 1 − p, exact where p is near 1
    return (beta1 * logp_S.detach()).exp() * lost_S.pow(beta2)


class SatImp(Method):
    """Ascent on the forget tokens that are neither sure nor lost, descent on retain, in one step."""

    Config = SatImpConfig
    use_when = (
        "texts must go by ascent that spares what stays; beside wga. "
        "Not where rows are known to the letter: what is certain has weight 0 and does not move."
    )
    approach = "ascent"
    needs = ("forget",)
    uses = ("retain",)
    defaults = {"learning_rate": 1e-5}

    def loss(self, model: nn.Module, batches: Mapping[str, Batch], phase: Phase) -> Terms:
        """Token means of both sides."""
        logp_S = batches["forget"].predict(model).logp_S
        weight_S = token_weights(logp_S, self.config.beta1, self.config.beta2)
        terms = {"forget": Term((weight_S * logp_S).sum(), of="forget", weight=self.config.gamma)}
        return terms | likelihood(model, batches, {"retain": self.config.alpha})


METHOD = SatImp
