"""Gradient difference (GradDiff): ascent on the forget set, descent on the retain set.

Source: Liu et al. 2022, "Continual Learning and Private Unlearning", arXiv:2203.12817, and, under this name, Maini
et al. 2024, "TOFU", arXiv:2401.06121, section 4.1.

    L = gamma · mean log p(forget tokens) − alpha · mean log p(retain tokens)

Departs from the paper: TOFU has gamma = alpha = 1 fixed; both are options here (as in open-unlearning).
Official code: github.com/locuslab/tofu (MIT); agrees.
"""

from __future__ import annotations

from collections.abc import Mapping

from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from palimpsest.contract import Config, Method, Phase, Term, Terms
from palimpsest.data.encode.batch import Batch


class GradDiffConfig(Config):
    """Options of GradDiff."""

    gamma: float = Field(default=1.0, ge=0)
    """Factor of the ascent term; the paper's value is 1."""
    alpha: float = Field(default=1.0, ge=0)
    """Factor of the retain term; the paper's value is 1."""


def ascent_loss(logp_S: Float[Tensor, "S"]) -> Float[Tensor, ""]:
    """Log-likelihood of the forget tokens, summed, nats."""
    return logp_S.sum()


def descent_loss(logp_S: Float[Tensor, "S"]) -> Float[Tensor, ""]:
    """Negative log-likelihood of the retain tokens, summed, nats."""
    return -logp_S.sum()


class GradDiff(Method):
    """Ascent on forget, descent on retain, in one step."""

    Config = GradDiffConfig
    use_when = (
        "texts must go and cost matters: one of the cheap ones that pass. "
        "Not at a fixed rate without repair, where it loses the retain set; for a class of images salun is "
        "nearer."
    )
    approach = "ascent"
    needs = ("forget", "retain")
    defaults = {"learning_rate": 1e-5}

    def loss(self, model: nn.Module, batches: Mapping[str, Batch], phase: Phase) -> Terms:
        """Token means of both sides."""
        forget, retain = batches["forget"].predict(model), batches["retain"].predict(model)
        return {
            "forget": Term(ascent_loss(forget.logp_S), of="forget", weight=self.config.gamma),
            "retain": Term(descent_loss(retain.logp_S), of="retain", weight=self.config.alpha),
        }


METHOD = GradDiff
