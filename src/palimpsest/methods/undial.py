"""UNDIAL: distil from the model before, with the right token's logit lowered.

Source: Dong et al. 2024, "UNDIAL: Self-Distillation with Adjusted Logits for Robust Unlearning in Large Language
Models", arXiv:2402.10052.

    L = gamma · mean CE( softmax(z_ref − beta · onehot(y)), p ) at the forget tokens − alpha · mean log p(retain tokens)

z_ref are the logits of the model before. The teacher stands still, so the loss has an end: the model before without its
right tokens. beta = 0 distils the model before itself. How far beta takes a token depends on how sure it was: its odds
fall to exp(−beta) of what they were.

Departs from the paper: none known; a retain term may be added, 0 by default as there.
Official code: github.com/dong-river/LLM_unlearning, not read; github.com/locuslab/open-unlearning (MIT) averages over
prompt and padding positions, too, whose label −100 lowers the logit of another token (the 100th from the last).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn

from palimpsest.contract import Config, Method, Phase, Term, Terms
from palimpsest.data.encode.batch import Batch
from palimpsest.models.divergence import soft_cross_entropy
from palimpsest.terms import likelihood


class UNDIALConfig(Config):
    """Options of UNDIAL."""

    beta: float = Field(default=10.0, ge=0)
    """What the right token's logit is lowered by; 10 in open-unlearning."""
    gamma: float = Field(default=1.0, ge=0)
    """Factor of the distillation; 1 in open-unlearning."""
    alpha: float = Field(default=0.0, ge=0)
    """Factor of the retain term; 0 in open-unlearning: none."""


def lowered(logits_SV: Float[Tensor, "S V"], target_S: Int[Tensor, "S"], beta: float) -> Float[Tensor, "S V"]:
    """Logits with beta taken from that of the right token.

    Args:
        logits_SV: of the model before.
        target_S: the right tokens.
        beta: >= 0.

    >>> import torch
    >>> lowered(torch.tensor([[3.0, 1.0]]), torch.tensor([0]), 2.0)
    tensor([[1., 1.]])
    """
    taken_S1 = torch.full_like(logits_SV[:, :1], beta)
    return logits_SV.scatter_add(1, target_S[:, None], -taken_S1)


class UNDIAL(Method):
    """Learn on forget what the model before said, without what was right."""

    Config = UNDIALConfig
    use_when = (
        "a fixed end is wanted: the model before without its right tokens. "
        "Not first choice: in the public TOFU sweep it came last at every setting."
    )
    approach = "distillation"
    needs = ("forget",)
    uses = ("retain",)
    reference_sets = frozenset({"forget"})
    defaults = {"learning_rate": 1e-4}

    def loss(self, model: nn.Module, batches: Mapping[str, Batch], phase: Phase) -> Terms:
        """Token means of the distillation and, where asked for, of the retain loss."""
        said = batches["forget"].predict(model)
        teacher_SV = lowered(self.recall(model, batches["forget"]).logits_SV, said.target_S, self.config.beta)
        distilled = soft_cross_entropy(teacher_SV, said.logits_SV).sum()
        terms = {"forget": Term(distilled, of="forget", weight=self.config.gamma)}
        return terms | (likelihood(model, batches, {"retain": self.config.alpha}) if self.config.alpha else {})


METHOD = UNDIAL
