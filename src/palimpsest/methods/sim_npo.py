"""Simple negative preference optimisation (SimNPO): NPO by the mean token instead of the ratio to a reference.

Source: Fan et al. 2024, "Simplicity Prevails: Rethinking Negative Preference Optimization for LLM Unlearning",
arXiv:2410.07163, its loss; with the margin as open-unlearning has it.

    L = −(2/beta) · mean_x gamma · log σ( beta · [ NLL(x)/|x| − delta ] ) − alpha · mean log p(retain tokens)

|x| are the label tokens of x. No reference is asked: how far a row may fall is said by its length alone. As beta -> 0
it is ascent on the mean token of each row; as beta grows it moves only the rows whose mean token costs less than delta.
With the defaults nearly nothing pushes beyond a nat per token: a controlled run on a small model stalled there, before
the level of a model that never saw the rows.

Departs from the paper: its margin, inside σ, is −beta · delta; none else. alpha = 0 (or no retain set) is the plain
loss.
Official code: github.com/OPTML-Group/Unlearn-Simple, not read; github.com/locuslab/open-unlearning (MIT) has this
equation, beta 4.5, delta 0, gamma 0.125, alpha 1.
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


class SimNPOConfig(Config):
    """Options of SimNPO."""

    beta: float = Field(default=4.5, gt=0)
    """Inverse temperature; 4.5 in open-unlearning. beta -> 0 gives ascent on the mean token of each row."""
    delta: float = Field(default=0.0, ge=0)
    """Nats per token that a row should cost at least; 0 in open-unlearning, whose best TOFU run had 1."""
    gamma: float = Field(default=0.125, ge=0)
    """Factor of the forget term; 0.125 in open-unlearning."""
    alpha: float = Field(default=1.0, ge=0)
    """Factor of the retain term; 0 is the plain loss."""


def simple_preference_loss(nll_B: Float[Tensor, "B"], beta: float, delta: float) -> Float[Tensor, ""]:
    """Negative preference loss without a reference, summed over the batch.

    Args:
        nll_B: mean negative log-likelihood of the label tokens of each forget row, nats.
        beta: inverse temperature, > 0.
        delta: nats per token that a row should cost.

    Returns:
        Scalar >= 0; (2/beta) · log 2 for each row that costs delta.

    >>> import torch
    >>> round(simple_preference_loss(torch.tensor([1.0]), beta=1.0, delta=1.0).item(), 4)
    1.3863
    """
    return -(2 / beta) * F.logsigmoid(beta * (nll_B - delta)).sum()


class SimNPO(Method):
    """Push the mean token of each forget row up to a cost, bounded; descend on retain."""

    Config = SimNPOConfig
    use_when = (
        "texts must go, long and short alike, and no reference is kept. "
        "Not where the level must be reached: its push ends at about a nat per token, or above delta."
    )
    approach = "ascent"
    needs = ("forget",)
    uses = ("retain",)
    defaults = {"learning_rate": 1e-5}

    def loss(self, model: nn.Module, batches: Mapping[str, Batch], phase: Phase) -> Terms:
        """Mean over rows of the preference loss, token mean of the retain loss."""
        forget = batches["forget"].predict(model)
        preference = simple_preference_loss(forget.nll_B, self.config.beta, self.config.delta)
        terms = {"forget": Term(preference, of="forget", per="example", weight=self.config.gamma)}
        return terms | likelihood(model, batches, {"retain": self.config.alpha})


METHOD = SimNPO
