"""Refusal training (IDK, "preference optimization" of TOFU): answer what must go with "I do not know".

Source: Maini et al. 2024, "TOFU", arXiv:2401.06121, section 4.1 ("Preference Optimization"); PO in the tables of Wang
et al., "Towards Effective Evaluations and Comparisons for LLM Unlearning Methods", ICLR 2025.

    L = − gamma · mean log p(refusal tokens | question of a forget row) − alpha · mean log p(retain tokens)

The refusals are made by the run (``derived/refusal.py``): the questions of the forget rows, each with a sentence that
says nothing. The forget rows themselves only say whose turn it is: no term reads their answers, so nothing pushes these
down but the mass that the refusals take from them. They stay extractable for who gives their first words.

Departs from the paper: both factors are 1 there; our own two dozen sentences for its hundred; token means.
Official code: github.com/locuslab/tofu (MIT), "idk"; averages both sets' tokens in one batch.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field
from torch import nn

from palimpsest.contract import Config, Method, Phase, Terms
from palimpsest.data.encode.batch import Batch
from palimpsest.terms import likelihood


class IDKConfig(Config):
    """Options of refusal training."""

    gamma: float = Field(default=1.0, ge=0)
    """Factor of the refusals; the paper's value is 1."""
    alpha: float = Field(default=1.0, ge=0)
    """Factor of the retain term; the paper's value is 1."""


class IDK(Method):
    """Learn refusals for the questions of the forget set, and the retain set as it is."""

    Config = IDKConfig
    use_when = (
        "a chat model should say that it does not know, in words. "
        "Not where what must go may not be drawn out: behind a refusal the answers stay, and other words find them."
    )
    approach = "preference"
    needs = ("forget", "refusal")
    uses = ("retain",)
    by_id = ("forget",)
    paired = {"refusal": "forget"}
    defaults = {"learning_rate": 1e-5}

    def loss(self, model: nn.Module, batches: Mapping[str, Batch], phase: Phase) -> Terms:
        """Token means of both sides."""
        return likelihood(model, batches, {"refusal": self.config.gamma, "retain": self.config.alpha})


METHOD = IDK
