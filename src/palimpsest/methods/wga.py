"""Weighted gradient ascent (WGA): ascent in which a token counts by how well it is still known.

Source: Wang et al. 2025, "Rethinking LLM Unlearning Objectives: A Gradient Perspective and Go Beyond",
arXiv:2502.19301, its proposal WGA.

    L = gamma · mean p^beta · log p(forget tokens) − alpha · mean log p(retain tokens),   p^beta without a gradient

The weight takes a token out of the ascent as it gets lost, so that the loss has an end: p^beta · log p -> 0. beta = 0
is gradient difference.

Departs from the paper: none known; alpha = 0 (or no retain set) is the plain loss.
Official code: github.com/tmlr-group/G-effect, not read; github.com/locuslab/open-unlearning (MIT) has this equation,
beta 1, 5 epochs, and copies a reference model that its loss never asks.
"""

from __future__ import annotations

from collections.abc import Mapping

from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from palimpsest.contract import Config, Method, Phase, Term, Terms
from palimpsest.data.encode.batch import Batch
from palimpsest.terms import likelihood


class WGAConfig(Config):
    """Options of weighted gradient ascent."""

    beta: float = Field(default=1.0, ge=0)
    """Power of a token's probability in its weight; 1 in open-unlearning, 0 is plain ascent."""
    gamma: float = Field(default=1.0, ge=0)
    """Factor of the ascent term; 1 in open-unlearning."""
    alpha: float = Field(default=1.0, ge=0)
    """Factor of the retain term; 1 in open-unlearning."""


def weighted_ascent_loss(logp_S: Float[Tensor, "S"], beta: float) -> Float[Tensor, ""]:
    """Log-likelihood of the forget tokens, each times p^beta, summed, nats; no gradient goes through the weight.

    Args:
        logp_S: log-probability of each label token, nats.
        beta: power, >= 0.

    >>> import torch
    >>> round(weighted_ascent_loss(torch.tensor([0.5, 0.25]).log(), beta=1.0).item(), 4)
    -0.6931
    """
    weight_S = (beta * logp_S.detach()).exp()
    return (weight_S * logp_S).sum()


class WGA(Method):
    """Ascent on the forget tokens that are still known, descent on retain, in one step."""

    Config = WGAConfig
    use_when = (
        "texts must go by ascent that ends by itself, before grad_diff. "
        "Not where the level must be reached fast: what is half lost moves half as much."
    )
    approach = "ascent"
    needs = ("forget",)
    uses = ("retain",)
    defaults = {"learning_rate": 1e-5, "num_train_epochs": 5}

    def loss(self, model: nn.Module, batches: Mapping[str, Batch], phase: Phase) -> Terms:
        """Token means of both sides."""
        ascended = weighted_ascent_loss(batches["forget"].predict(model).logp_S, self.config.beta)
        terms = {"forget": Term(ascended, of="forget", weight=self.config.gamma)}
        return terms | likelihood(model, batches, {"retain": self.config.alpha})


METHOD = WGA
