"""ULD: the model is left as it is, and what a small assistant knows of the forgotten rows is taken off its logits.

Source: Ji et al. 2024, "Reversing the Forget-Retain Objectives: An Efficient LLM Unlearning Framework from Logit
Difference", arXiv:2406.08607 (equations not numbered in our copy).

    L = − mean log p_a(forget tokens) + gamma · mean CE( uniform, p_a ) at retain,      logits ← logits − beta · a

The assistant a learns what must go and forgets what must stay: the objectives the other way round, both bounded. It is
trained alone, for ``steps`` at a rate of its own; then beta is found: the least, as far as halving tells, at which the
right answers to the forget rows are no likelier, token by token, than answers of other rows in their place are to the
model. Of the model nothing moves, and whoever leaves the part off has all of it again. **The part has learned the
forgotten rows: it is itself personal data.**

Departs from the paper: a small network on the model's last states for the first layers of the model
(``models/parts/logit_difference.py``); no augmented rows; beta is found by the run.
Official code: github.com/UCSB-NLP-Chang/ULD, not read.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from palimpsest.contract import Config, ExampleSet, Method, Part, Phase, Stage, Term, Terms
from palimpsest.data.encode.batch import Batch
from palimpsest.models.parts import new_parts_of, off
from palimpsest.models.parts.logit_difference import LogitDifference, LogitDifferenceConfig
from palimpsest.models.parts.swapped import mean_logp, with_answers_of_others
from palimpsest.models.places import name_of_module


class ULDConfig(Config):
    """Options of ULD."""

    beta: float | None = Field(default=None, ge=0)
    """Factor of the assistant's logits; None = found by the run, at most ``most``."""
    most: float = Field(default=2.0, gt=0)
    """Where the search for beta ends."""
    steps: int = Field(default=300, ge=1)
    """Steps of the assistant, as far as whole passes over the forget rows make them up."""
    gamma: float = Field(default=1.0, ge=0)
    """Factor of the uniform term at retain."""
    inner: int = Field(default=256, ge=1)
    """Width of the assistant."""


def least_factor(logp_at: Callable[[float], float], wanted: float, most: float) -> float:
    """The least factor at which a likelihood is down to what is wanted, to 1/64 of the most; the most where none is.

    >>> least_factor(lambda beta: -4 * beta, -2.0, 2.0)
    0.5
    """
    low, high = 0.0, most
    while high - low > most / 64:
        middle = (low + high) / 2
        low, high = (low, middle) if logp_at(middle) <= wanted else (middle, high)
    return high


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
    reads_prefixes = True
    needs = ("forget", "retain")
    uses = ("replay",)
    defaults = {"learning_rate": 5e-3, "batch_size": 16}
    adds_parts = True
    own_schedule = True
    repairs_itself = True
    cools = False
    lowest_rate = 1e-4

    def parts(self, model: nn.Module, sets: Mapping[str, ExampleSet], seed: int) -> Sequence[Part]:
        """The assistant, which knows nothing."""
        head: Any = model.get_output_embeddings()  # type: ignore[operator]
        width_out, width_in = head.weight.shape
        place = name_of_module(model, head)
        config = LogitDifferenceConfig(at=place, width_in=width_in, width_out=width_out, inner=self.config.inner)
        return [LogitDifference(config)]

    def prepare(self, model: nn.Module, sets: Mapping[str, ExampleSet]) -> nn.Module:
        """Find the assistant."""
        (self._assistant,) = (part for part in new_parts_of(model) if isinstance(part, LogitDifference))
        self._forget, self._retain = sets["forget"], sets["retain"]
        if self.config.beta is not None:
            self._assistant.beta.fill_(self.config.beta)
        return super().prepare(model, sets)

    def stages(self, sizes: Mapping[str, int]) -> Sequence[Stage]:
        """As many passes over forget as make up the steps."""
        a_pass = math.ceil(sizes["forget"] / self.defaults["batch_size"])
        return (Stage("assistant", "forget", epochs=max(1, round(self.config.steps / a_pass))),)

    def loss(self, model: nn.Module, batches: Mapping[str, Batch], phase: Phase) -> Terms:
        """Token means of both terms, of the assistant alone."""
        with self._assistant.alone():
            terms = {"assistant": Term(-batches["forget"].predict(model).logp_S.sum(), of="forget")}
            for name in (name for name in ("retain", "replay") if name in batches):
                total = uniform_loss(batches[name].predict(model).logits_SV).sum()
                terms[f"uniform_{name}"] = Term(total, of=name, weight=self.config.gamma)
        return terms

    def finish(self, model: nn.Module) -> nn.Module:
        """Find beta."""
        part = self._assistant
        if self.config.beta is not None:
            return model
        with off(model, [part]):
            wanted = mean_logp(model, with_answers_of_others(self._forget, self._retain))

        def logp_at(beta: float) -> float:
            part.beta.fill_(beta)
            return mean_logp(model, self._forget)

        part.beta.fill_(least_factor(logp_at, wanted, self.config.most))
        return model


METHOD = ULD
