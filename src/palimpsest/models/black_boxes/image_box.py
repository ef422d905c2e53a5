"""A classifier of images, or a function of Python in its place.

    POST url   {"shape": [B, C, H, W], "inputs": base64 of little-endian float32}
    200        {"probs": [[p, ...], ...], "labels": [...]}            labels may be left out

Shape legend: B images, C channels, H height, W width, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field, field_validator, model_validator

from palimpsest.errors import ModelError
from palimpsest.models.black_boxes.box import NUM_PROBES, question_digest
from palimpsest.models.black_boxes.probabilities import LabelBox, LabelledFacts, served_labels, served_probs
from palimpsest.models.encoded_arrays import decoded, encoded
from palimpsest.models.families.asked_family import AskedFamily
from palimpsest.models.families.image_classifier import ImageClassifier

if TYPE_CHECKING:
    from palimpsest.models.loaded import Loaded

_SIDE = Annotated[int, Field(ge=1, le=10_000)]


class ImageFacts(LabelledFacts):
    """What is known of a classifier of images behind an endpoint or a function."""

    IDENTITY: ClassVar[tuple[str, ...]] = ("url", "function", "labels", "image_size", "image_mean", "image_std")

    kind: Literal["image_classifier"] = "image_classifier"
    """What it is."""
    image_size: tuple[_SIDE, _SIDE]
    """Height and width of its images, pixels."""
    image_mean: tuple[float, ...] = (0.5,)
    """Subtracted from each channel of an image in [0, 1] before it is sent; one number per channel."""
    image_std: tuple[Annotated[float, Field(gt=0)], ...] = (0.5,)
    """What the difference is divided by."""

    @field_validator("image_size", mode="before")
    @classmethod
    def _both_sides(cls, size: Any) -> Any:
        return (size, size) if isinstance(size, int) else size

    @model_validator(mode="after")
    def _fits(self) -> ImageFacts:
        if len(self.image_mean) != len(self.image_std):
            raise ValueError("image_mean and image_std have as many numbers as the image has channels")
        return self


class BlackBoxImages(AskedFamily, ImageClassifier):
    """Images to classes, for a price."""

    name = "black_box"
    kind = "image_classifier"
    method = "bar"
    alternatives: ClassVar[tuple[str, ...]] = ("bar",)

    def pixels(self, facts: Any) -> Any:
        """Smaller pictures go into the middle of a grey frame."""
        from palimpsest.models.padded import format_of_black_box

        return format_of_black_box(facts)


class ImageBox(LabelBox):
    """A question is one image, (C, H, W), float32."""

    name = "image_classifier"
    family = BlackBoxImages()
    Facts = ImageFacts
    main_input = "pixel_values"
    things = "images"

    def probes(self, facts: Any) -> Sequence[np.ndarray]:
        """The same images of noise for every model of a format, normalised."""
        import torch

        mean, std = (torch.tensor(values)[:, None, None] for values in (facts.image_mean, facts.image_std))
        shape = (NUM_PROBES, len(facts.image_mean), *facts.image_size)
        images = (torch.rand(shape, generator=torch.Generator().manual_seed(16)) - mean) / std
        return list(images.numpy())

    def digest(self, question: Any) -> str:
        """Over an image, its shape and its float32 values.

        >>> ImageBox().digest(np.zeros((1, 2, 2))) == ImageBox().digest(np.zeros((1, 1, 4)))
        False
        """
        return question_digest(question.shape, question.astype(np.float32))

    def content(self, questions: Sequence[Any]) -> dict[str, Any]:
        """One array."""
        return encoded(np.stack(questions))

    def questions_of(self, given: Mapping[str, Any], facts: Any) -> Sequence[np.ndarray]:
        """The images of a batch."""
        import torch

        return list(given["pixel_values"].detach().to("cpu", torch.float32).numpy())

    def asked_of_function(self, questions: Sequence[Any]) -> tuple[Any, ...]:
        """A tensor (B, C, H, W)."""
        import torch

        return (torch.from_numpy(np.stack(questions)),)

    def serves(self, loaded: Loaded) -> bool:
        """A classifier whose images are read in some format."""
        return loaded.pixels is not None and loaded.family.has_classes

    def described(self, loaded: Loaded) -> dict[str, Any]:
        """Its format and its labels."""
        pixels: Any = loaded.pixels
        if pixels.levels is not None:
            raise ModelError(
                f"model {loaded.source} has another normalisation than mean and std, which a description cannot say"
            )
        said = {"labels": served_labels(loaded), "image_size": [pixels.height, pixels.width]}
        return said | {"image_mean": list(pixels.mean), "image_std": list(pixels.std)}

    def answered(self, values: Mapping[str, Any], loaded: Loaded) -> tuple[dict[str, Any], int]:
        """Probabilities of the images of a request."""
        import torch

        pixels: Any = loaded.pixels
        images, (height, width, channels) = decoded(values), pixels.shape
        if images.ndim != 4 or images.shape[1:] != (channels, height, width):
            raise ValueError(f"images of {channels} x {height} x {width} are taken")
        probs = served_probs(loaded, pixel_values=torch.from_numpy(images))
        return {"labels": served_labels(loaded), "probs": probs}, len(images)


BOX = ImageBox()
