"""Preference for alternatives (AltPO): prefer another plausible answer to the one that must go.

Source: Mekala et al. 2025, "Alternate Preference Optimization for Unlearning Factual Knowledge in Large Language
Models", arXiv:2409.13474 (COLING 2025); the loss is Eq. 7 of Rafailov et al. 2023, arXiv:2305.18290.

    L = −(2/beta) · mean_x log σ( beta · [ Δ(alternative) − Δ(x) ] ) − alpha · mean log p(retain tokens)
    Δ(y) = log p(y) − log p_ref(y), summed over the label tokens of y; the alternative answers the question of x

The alternatives are made by the run (``derived/alternative.py``): what the model itself says to the question where it
may not repeat the row. ``idk_dpo`` is the same with refusals.

Departs from the paper: one alternative a row, where it has several, and sampled without an instruction to make one up,
which small models do not follow; the factor 2/beta, as in NPO. alpha = 0 (or no retain set) is the preference alone.
Official code: github.com/molereddy/Alternate-Preference-Optimization, not read; github.com/locuslab/open-unlearning
(MIT) has this equation, beta 0.1.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field
from torch import nn

from palimpsest.contract import Config, Method, Phase, Terms
from palimpsest.data.encode.batch import Batch
from palimpsest.terms import likelihood, preferred


class AltPOConfig(Config):
    """Options of preference for alternatives."""

    beta: float = Field(default=0.1, gt=0)
    """Inverse temperature; 0.1 in open-unlearning."""
    alpha: float = Field(default=1.0, ge=0)
    """Factor of the retain term; 1 in open-unlearning, whose best TOFU run had 2."""


class AltPO(Method):
    """Prefer another answer to each forget row, more than the reference does; descend on retain."""

    Config = AltPOConfig
    use_when = (
        "another answer should be given; the best of the public TOFU sweep. "
        "Not where a made-up answer does harm: it learns to say something else, not that it does not know."
    )
    approach = "preference"
    needs = ("forget", "alternative")
    uses = ("retain",)
    reference_sets = frozenset({"forget", "alternative"})
    paired = {"alternative": "forget"}
    defaults = {"learning_rate": 1e-5}

    def loss(self, model: nn.Module, batches: Mapping[str, Batch], phase: Phase) -> Terms:
        """Mean over pairs of the preference loss, token mean of the retain loss."""
        terms = preferred(model, batches, "alternative", self.recall, self.config.beta)
        return terms | likelihood(model, batches, {"retain": self.config.alpha})


METHOD = AltPO
