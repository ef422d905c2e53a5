"""A logit difference: what a small assistant knows of the forgotten rows is taken off what the model says.

    logits <- logits − alpha · beta · a(z),        a(z) = gelu(z A) U,        z what enters the model's output layer

Source: Ji et al. 2024, "Reversing the Forget-Retain Objectives: An Efficient LLM Unlearning Framework from Logit
Difference" (ULD), arXiv:2406.08607.

Departs from the paper: the assistant there is a model of its own, the first layers of the large one with low-rank
adapters. Here it is a small network on the model's own last states with an output layer of its own, so that nothing is
read twice and caches hold. It begins with U = 0, the uniform distribution, and so as the model itself.

The weights still know everything, and whoever leaves the part off has it again. The part has learned the forgotten rows
by heart: it is itself personal data, and more so than a direction or a threshold.

Shape legend: D width, K inner width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from palimpsest.errors import ModelError
from palimpsest.models.parts.part import Part, PartConfig


class LogitDifferenceConfig(PartConfig):
    """Options of a logit difference."""

    width_in: int = Field(ge=1)
    """Numbers that enter the output layer."""
    width_out: int = Field(ge=1)
    """Numbers that leave it: words."""
    inner: int = Field(default=256, ge=1)
    """K, width of the assistant."""


def assistant_logits(
    states: Float[Tensor, "... D"], down_DK: Float[Tensor, "D K"], up_KV: Float[Tensor, "K V"]
) -> Float[Tensor, "... V"]:
    """gelu(z A) U.

    >>> assistant_logits(torch.tensor([[1.0, -1.0]]), torch.ones(2, 1), torch.ones(1, 3)).tolist()
    [[0.0, 0.0, 0.0]]
    """
    return F.gelu(states @ down_DK) @ up_KV


class LogitDifference(Part):
    """Logits minus those of a small assistant."""

    Config = LogitDifferenceConfig
    beta: Tensor
    kind = "logit_difference"
    keeps = "a network that has learned them by heart, in the part logit_difference: personal data"
    folds_when_saved = False
    hides = True

    def __init__(self, config: LogitDifferenceConfig) -> None:
        super().__init__(config)
        self.down = nn.Parameter(torch.randn(config.width_in, config.inner) / config.width_in**0.5)
        self.up = nn.Parameter(torch.zeros(config.inner, config.width_out))
        self.register_buffer("beta", torch.ones(()))
        self.is_alone = False

    @classmethod
    def example(cls, at: str, width: int) -> LogitDifferenceConfig:
        """Beside a linear layer."""
        return LogitDifferenceConfig(at=at, width_in=width, width_out=width, inner=4)

    def forward(self, states: Tensor) -> Tensor:
        """Logits of the assistant."""
        return assistant_logits(states, self.down, self.up)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """In the block the model says what the assistant says."""
        self.is_alone = True
        try:
            yield
        finally:
            self.is_alone = False

    def _after(self, _module: nn.Module, inputs: Any, output: Any) -> Any:
        if self.is_alone:
            return self(inputs[0])
        factor = self.alpha * float(self.beta)
        if self.is_off or factor == 0:
            return None
        if not isinstance(output, Tensor):
            raise ModelError(
                f"part {self.kind!r} at {self.config.at}: that layer answers with a {type(output).__name__}; accepted: "
                "a layer that answers with logits"
            )
        return output - factor * self(inputs[0])


PART = LogitDifference
