"""Scale and shift (SSF): every channel behind every layer louder and moved, one part for a whole task.

Source: Lian et al. 2022, "Scaling & Shifting Your Features: A New Baseline for Efficient Model Tuning",
arXiv:2210.08823, as APER uses it; known from notes on the paper.

    y <- y + alpha · (g · y + b)      behind every linear layer, convolution and normalisation below the head

Departs from the paper: g and b begin at zero, not near it, so that a new one changes nothing; it stays beside the
weights, because it acts in the view of its task alone.

Shape legend: ... any leading axes, D channels.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from palimpsest.method_card import Config
from palimpsest.models.parts import ATTRIBUTE
from palimpsest.models.parts.block_adapter import width_behind
from palimpsest.models.parts.task_views import TaskPart, TaskPartConfig
from palimpsest.models.places import module_at

SCALED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.LayerNorm, nn.BatchNorm2d, nn.GroupNorm)
"""What it goes behind."""


class ScaledLayer(Config):
    """One layer."""

    at: str = Field(min_length=1)
    """Its name."""
    width: int = Field(ge=1)
    """D, its channels."""


class ScaleShiftConfig(TaskPartConfig):
    """Options of scale and shift."""

    layers: tuple[ScaledLayer, ...] = Field(min_length=1)
    """The layers it goes behind."""


def scaled_and_shifted(
    y: Float[Tensor, "... D"], gain_D: Float[Tensor, "D"], shift_D: Float[Tensor, "D"]
) -> Float[Tensor, "... D"]:
    """What is added: g · y + b.

    >>> scaled_and_shifted(torch.tensor([2.0, 4.0]), torch.tensor([0.5, 0.0]), torch.tensor([0.0, 1.0])).tolist()
    [1.0, 1.0]
    """
    return gain_D * y + shift_D


class ScaleShift(TaskPart):
    """Two numbers per channel."""

    Config = ScaleShiftConfig
    kind = "scale_shift"

    def __init__(self, config: ScaleShiftConfig) -> None:
        super().__init__(config)
        self.gain = nn.ParameterList(nn.Parameter(torch.zeros(layer.width)) for layer in config.layers)
        self.shift = nn.ParameterList(nn.Parameter(torch.zeros(layer.width)) for layer in config.layers)

    @classmethod
    def example(cls, at: str, width: int) -> ScaleShiftConfig:
        """Behind one layer."""
        return ScaleShiftConfig(layers=(ScaledLayer(at=at, width=width),))

    @property
    def places(self) -> tuple[str, ...]:
        """The layers."""
        return tuple(layer.at for layer in self.config.layers)

    def attach(self, model: nn.Module) -> None:
        """Act behind every layer.

        Raises:
            ModelError: one is not there.
        """
        for number, place in enumerate(self.places):
            module = module_at(model, place, "part 'scale_shift'")
            like = next(module.parameters(), next(model.parameters()))
            self.to(device=like.device, dtype=like.dtype)
            self.holds(module.register_forward_hook(partial(self._scaled, number)))

    def _scaled(self, number: int, _module: nn.Module, _inputs: Any, output: Tensor) -> Tensor | None:
        """A forward hook of one layer; channels come first in a picture (B, C, H, W)."""
        if self.is_off:
            return None
        y = output.movedim(1, -1) if output.ndim == 4 else output
        change = scaled_and_shifted(y, self.gain[number], self.shift[number])
        change = change.movedim(-1, 1) if output.ndim == 4 else change
        return output + (change if self.alpha == 1 else self.alpha * change)


def scaled_layers(model: nn.Module, head: str) -> tuple[ScaledLayer, ...]:
    """The layers of a model that it goes behind: all but the head and those of parts.

    Args:
        model: a classifier.
        head: name of its head.
    """
    return tuple(
        ScaledLayer(at=name, width=width_behind(module) or 1)
        for name, module in model.named_modules()
        if isinstance(module, SCALED) and name != head and not name.startswith(f"{ATTRIBUTE}.")
    )


PART = ScaleShift
