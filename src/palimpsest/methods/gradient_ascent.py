"""Gradient ascent on the forget set (GA; for language models: KUMPR).

Source: Jang et al. 2022, "Knowledge Unlearning for Mitigating Privacy Risks in Language Models", arXiv:2210.01504,
Eq. 1.

    L = + mean log p(forget tokens)          (their Eq. 1 sums over tokens; the token mean is what their training uses)

Departs from the paper: token mean over the step instead of one mean per batch; equal when batches are equal.
Official code: github.com/joeljang/knowledge-unlearning@732876d, no licence (nothing copied); agrees with the paper.
"""

from __future__ import annotations

from collections.abc import Mapping

from jaxtyping import Float
from torch import Tensor, nn

from palimpsest.contract import Method, Phase, Term, Terms
from palimpsest.data.encode.batch import Batch


def ascent_loss(logp_S: Float[Tensor, "S"]) -> Float[Tensor, ""]:
    """Log-likelihood of the forget tokens, summed, nats; minimising it is gradient ascent on the usual loss.

    >>> import torch
    >>> round(ascent_loss(torch.tensor([0.5, 0.25]).log()).item(), 4)
    -2.0794
    """
    return logp_S.sum()  # Eq. 1


class GradientAscent(Method):
    """Climb the loss of the forget set; nothing protects the rest, only a budget or refinement stops it."""

    use_when = (
        "nothing has to stay, or as the baseline everybody compares with. "
        "Not alone at a fixed rate: it forgets in seconds and takes everything else with it."
    )
    approach = "ascent"

    defaults = {"learning_rate": 1e-5}

    def loss(self, model: nn.Module, batches: Mapping[str, Batch], phase: Phase) -> Terms:
        """Token mean of the log-likelihood."""
        return {"forget": Term(ascent_loss(batches["forget"].predict(model).logp_S), of="forget")}


METHOD = GradientAscent
