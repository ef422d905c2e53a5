"""Cross-entropy unlearning (CE-U): distil the model from itself, without the right token.

Source: Yang 2025, "CE-U: Cross Entropy Unlearning", arXiv:2503.01224.

    L = mean CE( q, p ) at the forget tokens − alpha · mean log p(retain tokens)
    q = softmax(z with z_y = −∞) without a gradient; the first ``skipped`` tokens of each answer are left alone

z are the model's own logits of this step. The gradient by the logits is p − q, p_y at the right token: it fades as the
token is lost, where that of ascent, 1 − p_y, grows. Unlike in ``unilogit`` the target is 0, below chance.

Departs from the paper: an answer of no more than ``skipped`` tokens keeps its last one, so that short answers and
images (one position each) are not left out; a retain term may be added, 0 by default as there.
Official code: none found; github.com/locuslab/open-unlearning (MIT) has this equation, skipping 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor, nn

from palimpsest.contract import Config, Method, Phase, Term, Terms
from palimpsest.data.encode.batch import Batch
from palimpsest.models.divergence import soft_cross_entropy
from palimpsest.terms import likelihood


class CEUConfig(Config):
    """Options of cross-entropy unlearning."""

    skipped: int = Field(default=1, ge=0)
    """Label tokens at the beginning of each answer that are left alone; 1 in open-unlearning."""
    alpha: float = Field(default=0.0, ge=0)
    """Factor of the retain term; 0 in open-unlearning: none."""


def without_right(logits_SV: Float[Tensor, "S V"], target_S: Int[Tensor, "S"]) -> Float[Tensor, "S V"]:
    """The logits with that of the right token at −∞, without a gradient.

    >>> import torch
    >>> without_right(torch.tensor([[2.0, 1.0, 1.0]]), torch.tensor([0])).softmax(-1)
    tensor([[0.0000, 0.5000, 0.5000]])
    """
    return logits_SV.detach().scatter(1, target_S[:, None], -math.inf)


def behind_the_first(owner_S: Int[Tensor, "S"], skipped: int) -> Bool[Tensor, "S"]:
    """Which positions come after the first of their example, or are its last.

    Args:
        owner_S: row of each position, rows in order.
        skipped: positions of each example to leave out, >= 0; one of them stays at least.

    >>> import torch
    >>> behind_the_first(torch.tensor([0, 0, 0, 1]), 1).tolist()
    [False, True, True, True]
    """
    count_B = torch.bincount(owner_S)
    first_B = count_B.cumsum(0) - count_B
    place_S = torch.arange(len(owner_S), device=owner_S.device) - first_B[owner_S]
    return (place_S >= skipped) | (place_S == count_B[owner_S] - 1)


class CEU(Method):
    """Learn on forget what the model says when the right token is struck out."""

    Config = CEUConfig
    use_when = (
        "texts must go by few steps that stay bounded, without a reference. "
        "Not without repair where much must stay: the paper's loss has no retain term."
    )
    approach = "distillation"
    needs = ("forget",)
    uses = ("retain",)
    defaults = {"learning_rate": 1e-5}

    def loss(self, model: nn.Module, batches: Mapping[str, Batch], phase: Phase) -> Terms:
        """Mean of the cross-entropy over the positions that count, token mean of the retain loss."""
        said = batches["forget"].predict(model)
        counts_S = behind_the_first(said.owner_S, self.config.skipped)
        distilled_S = soft_cross_entropy(without_right(said.logits_SV, said.target_S), said.logits_SV)
        terms = {"forget": Term((distilled_S * counts_S).sum(), of="forget", count=counts_S.sum())}
        return terms | (likelihood(model, batches, {"retain": self.config.alpha}) if self.config.alpha else {})


METHOD = CEU
