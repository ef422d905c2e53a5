"""Image examples -> batches. What is scored is the class, one position per image.

Shape legend: B images of a batch, N images of a set, H height, W width, C channels.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from types import MappingProxyType
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from palimpsest.data.encode.augment import Augmentation
from palimpsest.data.encode.batch import Predictions
from palimpsest.data.encode.batch_norm import statistics_kept
from palimpsest.data.encode.class_batch import ClassBatch
from palimpsest.data.encode.pixels import PixelFormat
from palimpsest.data.problems import Problems, refuse_twice
from palimpsest.data.read.classes import class_number, own_label
from palimpsest.errors import DataError
from palimpsest.records import Example, Image


@dataclass(frozen=True)
class ImageBatch(ClassBatch):
    """Normalised images with their classes.

    Attributes:
        ids: example ids, B of them.
        images_BCHW: normalised.
        label_B: classes.
        moves_statistics: False runs batch normalisation with its running statistics and leaves these alone.
    """

    ids: tuple[str, ...]
    images_BCHW: Float[Tensor, "B C H W"]
    label_B: Int[Tensor, "B"]
    moves_statistics: bool = True

    def to(self, device: torch.device) -> ImageBatch:
        """The same batch on a device."""
        return replace(self, images_BCHW=self.images_BCHW.to(device), label_B=self.label_B.to(device))

    def inputs(self) -> dict[str, Tensor]:
        """Keyword arguments of an image classifier's forward."""
        return {"pixel_values": self.images_BCHW}

    def gather(self, values: Tensor) -> Tensor:
        """Values at the scored positions: there is one per image, so all of them."""
        return values

    def predict(self, model: nn.Module) -> Predictions:
        """One forward pass."""
        with statistics_kept(model, everywhere=not self.moves_statistics or len(self) == 1):
            output: Any = model(**self.inputs())
        return Predictions(output.logits, self.target_S, self.owner_S, len(self))

    def predict_with(self, model: nn.Module, others: Sequence[ImageBatch]) -> list[Predictions]:
        """One forward pass for all that move the statistics, one each for the others."""
        batches = dict(enumerate((self, *others)))
        joined = {number: batch for number, batch in batches.items() if batch.moves_statistics}
        found = {number: batch.predict(model) for number, batch in batches.items() if number not in joined}
        if joined:
            images_BCHW = torch.cat([batch.images_BCHW for batch in joined.values()])
            with statistics_kept(model, everywhere=len(images_BCHW) == 1):
                output: Any = model(pixel_values=images_BCHW)
            parts = output.logits.split([len(batch) for batch in joined.values()])
            for (number, batch), logits_SV in zip(joined.items(), parts, strict=True):
                found[number] = Predictions(logits_SV, batch.target_S, batch.owner_S, len(batch))
        return [found[number] for number in batches]


@dataclass(frozen=True)
class ImageSet:
    """A named set of images that hands out batches by id; ``dataclasses.replace`` gives one with other marks.

    Attributes:
        ids: in the order of the data.
        images_NHWC: as uint8.
        label_N: classes.
        pixels: how batches are normalised.
        augment: done to every image of every batch; None = nothing.
        moves_statistics: of the batches (``ImageBatch``); False for a forget set.
        family: name of the family of models that takes it.
    """

    family: ClassVar[str] = "image_classifier"

    ids: tuple[str, ...]
    images_NHWC: UInt8[Tensor, "N H W C"]
    label_N: Int[Tensor, "N"]
    pixels: PixelFormat
    augment: Augmentation | None = None
    moves_statistics: bool = True

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def _row(self) -> Mapping[str, int]:
        return {example_id: row for row, example_id in enumerate(self.ids)}

    def batch(self, ids: Sequence[str]) -> ImageBatch:
        """The examples with these ids as one batch, in the order asked; an id may repeat."""
        row_B = torch.tensor([self._row[i] for i in ids], dtype=torch.long)
        images_BHWC = self.images_NHWC[row_B]
        if self.augment is not None:
            images_BHWC = self.augment(images_BHWC)
        return ImageBatch(tuple(ids), self.pixels.normalise(images_BHWC), self.label_N[row_B], self.moves_statistics)

    def subset(self, ids: Iterable[str]) -> ImageSet:
        """The examples with these ids as a set, in the order of this one; the others' pixels are not kept."""
        chosen = frozenset(ids)
        kept = [i for i in self.ids if i in chosen]
        row_M = torch.tensor([self._row[i] for i in kept], dtype=torch.long)
        return replace(self, ids=tuple(kept), images_NHWC=self.images_NHWC[row_M], label_N=self.label_N[row_M])

    def to(self, device: torch.device) -> ImageSet:
        """The same set with its pixels on a device, where its batches are then made."""
        return replace(self, images_NHWC=self.images_NHWC.to(device), label_N=self.label_N.to(device))

    def plain(self) -> ImageSet:
        """The same set without augmentation, for measuring."""
        return replace(self, augment=None)


def encode_images(
    examples: Sequence[Example],
    pixels: PixelFormat,
    *,
    num_classes: int,
    class_names: Mapping[str, int] = MappingProxyType({}),
    augment: Augmentation | None = None,
    moves_statistics: bool = True,
) -> ImageSet:
    """Images in a model's format.

    Args:
        examples: N of them, ids unique, contents images.
        pixels: of the model.
        num_classes: of the model.
        class_names: name -> class, for labels given as names.
        augment: of the set.
        moves_statistics: of the set.

    Returns:
        The set, in order.

    Raises:
        DataError: which example has another size, other channels or an unknown class; how many more.
    """
    images_NHWC = torch.empty((len(examples), *pixels.shape), dtype=torch.uint8)
    label_N = torch.zeros(len(examples), dtype=torch.long)
    ids: dict[str, None] = {}
    problems = Problems()
    for row, example in enumerate(examples):
        with problems.of(example.name):
            content = _image(example, ids)
            label_N[row] = class_number(own_label(content, class_names), num_classes, class_names)
            images_NHWC[row].numpy()[:] = pixels.pixels_of(content)
    problems.refuse()
    return ImageSet(tuple(ids), images_NHWC, label_N, pixels, augment, moves_statistics)


def _image(example: Example, seen: dict[str, None]) -> Image:
    if not isinstance(example.content, Image):
        kind = type(example.content).__name__.lower()
        raise DataError(f"a row of {kind} for an image model; accepted: images with a label (.npz, image folder)")
    refuse_twice(example.id, seen)
    seen[example.id] = None
    return example.content
