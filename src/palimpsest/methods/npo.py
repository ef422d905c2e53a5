"""Negative preference optimisation (NPO).

Source: Zhang et al. 2024, "Negative Preference Optimization: From Catastrophic Collapse to Effective Unlearning",
arXiv:2404.05868v2, Eq. 3; the retain term is their NPO+RT.

    L = (2/beta) · mean_x log(1 + (p(x)/p_ref(x))^beta) − alpha · mean log p(retain tokens)

Departs from the paper: none; alpha = 0 (or no retain set) is plain NPO.
Official code: github.com/licong-lin/negative-preference-optimization (MIT); agrees.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from palimpsest.contract import Config, Method, Phase, Term, Terms
from palimpsest.data.encode.batch import Batch
from palimpsest.terms import likelihood


class NPOConfig(Config):
    """Options of NPO."""

    beta: float = Field(default=0.1, gt=0)
    """Inverse temperature; beta -> 0 gives gradient ascent. The paper's default is 0.1."""
    alpha: float = Field(default=1.0, ge=0)
    """Factor of the retain term (NPO+RT); 0 is plain NPO."""


def npo_loss(logp_B: Float[Tensor, "B"], ref_logp_B: Float[Tensor, "B"], beta: float) -> Float[Tensor, ""]:
    """Negative preference loss, summed over the batch.

    Args:
        logp_B: log-probability of each forget sequence under the model, summed over its label tokens, nats.
        ref_logp_B: the same under the reference.
        beta: inverse temperature, > 0.

    Returns:
        Scalar >= 0. At the start (model = reference) it is (2/beta)·log 2 for each sequence.

    >>> import torch
    >>> round(npo_loss(torch.tensor([-1.0]), torch.tensor([-1.0]), beta=1.0).item(), 4)
    1.3863
    """
    log_ratio_B = logp_B - ref_logp_B
    return -(2 / beta) * F.logsigmoid(-beta * log_ratio_B).sum()  # Eq. 3


class NPO(Method):
    """Push forget sequences below the reference, bounded; descend on retain."""

    Config = NPOConfig
    use_when = (
        "texts must go and what stays matters more than going all the way. "
        "Not where the level must be reached: in a third of its runs it was not."
    )
    approach = "ascent"
    needs = ("forget",)
    uses = ("retain",)
    reference_sets = frozenset({"forget"})
    defaults = {"learning_rate": 1e-5}

    def loss(self, model: nn.Module, batches: Mapping[str, Batch], phase: Phase) -> Terms:
        """Mean over sequences of the preference loss, token mean of the retain loss."""
        forget = batches["forget"].predict(model)
        reference = self.recall(model, batches["forget"])
        preference = npo_loss(forget.logp_B, reference.logp_B, self.config.beta)
        terms = {"forget": Term(preference, of="forget", per="example")}
        return terms | likelihood(model, batches, {"retain": self.config.alpha})


METHOD = NPO
