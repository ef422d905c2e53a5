"""ULD: the model is left as it is, and what a small assistant knows of the forgotten rows is taken off its logits.

Source: Ji et al. 2024, "Reversing the Forget-Retain Objectives: An Efficient LLM Unlearning Framework from Logit
Difference", arXiv:2406.08607 (equations not numbered in our copy).

    L = − mean log p_a(forget tokens) + gamma · mean CE( uniform, p_a ) at retain,      logits <- logits − beta · a

The assistant a learns what must go and forgets what must stay: the objectives the other way round, both bounded. It is
trained alone; at the weights of the model nothing moves, and whoever leaves the part off has all of it again. The part
has learned the forgotten rows: it is itself personal data.

Departs from the paper: a small network on the model's last states for the first layers of the model
(``models/parts/logit_difference.py``); no augmented rows.
Official code: github.com/UCSB-NLP-Chang/ULD, not read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from palimpsest.contract import Config, ExampleSet, Method, Part, Phase, Term, Terms
from palimpsest.data.encode.batch import Batch
from palimpsest.models.parts import new_parts_of
from palimpsest.models.parts.logit_difference import LogitDifference, LogitDifferenceConfig
from palimpsest.models.places import name_of_module


class ULDConfig(Config):
    """Options of ULD."""

    beta: float = Field(default=1.0, gt=0)
    """Factor of the assistant's logits."""
    gamma: float = Field(default=1.0, ge=0)
    """Factor of the uniform term at retain."""
    inner: int = Field(default=64, ge=1)
    """Width of the assistant."""


def uniform_loss(logits_SV: Float[Tensor, "S V"]) -> Float[Tensor, "S"]:
    """Cross-entropy between the uniform distribution and a prediction, nats, at least log V.

    >>> round(uniform_loss(torch.zeros(1, 4)).item(), 4)
    1.3863
    """
    return logits_SV.float().logsumexp(-1) - logits_SV.float().mean(-1)


class ULD(Method):
    """An assistant learns the forget set, and is taken off the model."""

    Config = ULDConfig
    use_when = (
        "the weights must not change, and no refusal may show. "
        "Not where the part is seen by others: it has learned the forgotten rows, and the weights know them still."
    )
    approach = "guard"
    modalities = ("text",)
    needs = ("forget", "retain")
    defaults = {"learning_rate": 2e-3, "batch_size": 16}
    adds_parts = True
    repairs_itself = True
    cools = False
    lowest_rate = 1e-4

    def parts(self, model: nn.Module, sets: Mapping[str, ExampleSet], seed: int) -> Sequence[Part]:
        """The assistant, which knows nothing."""
        head: Any = model.get_output_embeddings()  # type: ignore[operator]
        width_out, width_in = head.weight.shape
        place, options = name_of_module(model, head), self.config
        return [
            LogitDifference(
                LogitDifferenceConfig(
                    at=place, width_in=width_in, width_out=width_out, inner=options.inner, beta=options.beta
                )
            )
        ]

    def prepare(self, model: nn.Module, sets: Mapping[str, ExampleSet]) -> nn.Module:
        """Find the assistant."""
        (self._assistant,) = (part for part in new_parts_of(model) if isinstance(part, LogitDifference))
        return super().prepare(model, sets)

    def loss(self, model: nn.Module, batches: Mapping[str, Batch], phase: Phase) -> Terms:
        """Token means of both terms, of the assistant alone."""
        with self._assistant.alone():
            learned = batches["forget"].predict(model)
            unlearned_SV = batches["retain"].predict(model).logits_SV
        return {
            "assistant": Term(-learned.logp_S.sum(), of="forget"),
            "uniform": Term(uniform_loss(unlearned_SV).sum(), of="retain", weight=self.config.gamma),
        }


METHOD = ULD
