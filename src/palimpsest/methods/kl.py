"""KL minimisation: ascent on the forget set while the retain distribution stays the reference's.

Source: Maini et al. 2024, "TOFU", arXiv:2401.06121, section 4.1 ("KL Minimization").

    L = gamma · mean log p(forget tokens) + alpha · mean KL( p_ref(·|retain prefix) ‖ p(·|retain prefix) )

Departs from the paper: the KL is taken at label positions only; prompts and padding do not count.
Official code: github.com/locuslab/tofu (MIT); averages the KL over every position of the padded batch.
"""

from __future__ import annotations

from collections.abc import Mapping

from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from palimpsest.contract import Config, Method, Phase, Term, Terms
from palimpsest.data.encode.batch import Batch
from palimpsest.models.divergence import kl_divergence


class KLConfig(Config):
    """Options of KL minimisation."""

    gamma: float = Field(default=1.0, ge=0)
    """Factor of the ascent term; the paper's value is 1."""
    alpha: float = Field(default=1.0, ge=0)
    """Factor of the KL term; the paper's value is 1."""


def ascent_loss(logp_S: Float[Tensor, "S"]) -> Float[Tensor, ""]:
    """Log-likelihood of the forget tokens, summed, nats."""
    return logp_S.sum()


class KL(Method):
    """Ascent on forget, staying close to the reference on retain."""

    Config = KLConfig
    use_when = (
        "texts must go and the answers on what stays should shift least. "
        "Not at a fixed rate without repair, where it loses the retain set as gradient ascent does."
    )
    approach = "ascent"
    needs = ("forget", "retain")
    reference_sets = frozenset({"retain"})
    defaults = {"learning_rate": 1e-5}

    def loss(self, model: nn.Module, batches: Mapping[str, Batch], phase: Phase) -> Terms:
        """Token means of ascent and divergence."""
        ascended = ascent_loss(batches["forget"].predict(model).logp_S)
        retain = batches["retain"].predict(model)
        reference = self.recall(model, batches["retain"])
        divergence = kl_divergence(reference.logits_SV, retain.logits_SV).sum()
        return {
            "forget": Term(ascended, of="forget", weight=self.config.gamma),
            "kl": Term(divergence, of="retain", weight=self.config.alpha),
        }


METHOD = KL
