"""A linear classifier of images whose every number can be worked by hand, and sets of tiny images for it."""

from __future__ import annotations

from types import SimpleNamespace

import torch
from torch import nn

from palimpsest.data.encode.image import ImageSet
from palimpsest.data.encode.pixels import PixelFormat

UNIT = PixelFormat(1, 2, (0.0,), (1.0,))  # images of two pixels, in [0, 1]


class LinearImages(nn.Module):
    """logits = W x + b of an image of two pixels."""

    main_input_name = "pixel_values"

    def __init__(self, weight: list[list[float]], bias: list[float] | None = None) -> None:
        super().__init__()
        self.config = SimpleNamespace(num_labels=len(weight))
        self.linear = nn.Linear(2, len(weight))
        with torch.no_grad():
            self.linear.weight.copy_(torch.tensor(weight))
            self.linear.bias.copy_(torch.tensor(bias or [0.0] * len(weight)))

    def forward(self, pixel_values: torch.Tensor) -> SimpleNamespace:
        return SimpleNamespace(logits=self.linear(pixel_values.flatten(1)))


def images(prefix: str, pixels: list[list[int]], labels: list[int]) -> ImageSet:
    """A set of images of two pixels of 0 to 255."""
    values = torch.tensor(pixels, dtype=torch.uint8).view(-1, 1, 2, 1)
    ids = tuple(f"{prefix}{number}" for number in range(len(labels)))
    return ImageSet(ids, values, torch.tensor(labels), UNIT, moves_statistics=False)


class Before:
    """A reference: a frozen copy."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def predict(self, model, batch):
        return batch.predict(self.model)
