"""Preference for refusals (IDK-DPO): direct preference optimisation with "I do not know" over what must go.

Source: Rafailov et al. 2023, "Direct Preference Optimization", arXiv:2305.18290, Eq. 7, with the pairs of Zhang et al.
2024 (NPO), arXiv:2404.05868, where it is the baseline "DPO" of TOFU; the retain term is its DPO+RT.

    L = −(2/beta) · mean_x log σ( beta · [ Δ(refusal) − Δ(x) ] ) − alpha · mean log p(retain tokens)
    Δ(y) = log p(y) − log p_ref(y), summed over the label tokens of y; the refusal answers the question of x

The refusals are made by the run (``derived/refusal.py``), one beside each forget row. At the start (model = reference)
a pair costs (2/beta) · log 2; NPO is the same without the refusal. A refusal of many tokens gains more nats than
the row loses, and a pair that is far enough apart moves nothing any more: what must go goes slower than by NPO.

Departs from the paper: the factor 2/beta, as in NPO and open-unlearning (DPO itself has 1; rates found for one do not
fit the other); alpha = 0 (or no retain set) is plain DPO.
Official code: none for unlearning; github.com/locuslab/open-unlearning (MIT) has this equation, beta 0.1.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field
from torch import nn

from palimpsest.contract import Config, Method, Phase, Terms
from palimpsest.data.encode.batch import Batch
from palimpsest.terms import likelihood, preferred


class IDKDPOConfig(Config):
    """Options of preference for refusals."""

    beta: float = Field(default=0.1, gt=0)
    """Inverse temperature; 0.1 in open-unlearning."""
    alpha: float = Field(default=1.0, ge=0)
    """Factor of the retain term; 0 is plain DPO."""


class IDKDPO(Method):
    """Prefer a refusal to each forget row, more than the reference does; descend on retain."""

    Config = IDKDPOConfig
    use_when = (
        "refusals are wanted and the answers behind them pushed down too. "
        "Not where the plainest will do: npo needs no refusals, and its bound is the same."
    )
    approach = "preference"
    needs = ("forget", "refusal")
    uses = ("retain",)
    reference_sets = frozenset({"forget", "refusal"})
    paired = {"refusal": "forget"}
    defaults = {"learning_rate": 1e-5}

    def loss(self, model: nn.Module, batches: Mapping[str, Batch], phase: Phase) -> Terms:
        """Mean over pairs of the preference loss, token mean of the retain loss."""
        terms = preferred(model, batches, "refusal", self.recall, self.config.beta)
        return terms | likelihood(model, batches, {"retain": self.config.alpha})


METHOD = IDKDPO
