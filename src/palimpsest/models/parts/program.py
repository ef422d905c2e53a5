"""Input program: what is laid on every image before a model sees it, so that a frozen model does another task.

    X~ = x where the image of the target task sits, grey + reach · tanh(W) on the frame around it
    X~ = x + reach · tanh(W) everywhere, where there is no frame

Source: Tsai, Chen, Ho 2020 (BAR), after Elsayed, Goodfellow, Sohl-Dickstein 2018, "Adversarial Reprogramming of Neural
Networks", arXiv:1806.11146; known from notes on them.

Departs from the paper: W holds the numbers of the frame alone, not masked ones that move nothing, so that a gradient
that is estimated has no more dimensions than it needs. At W = 0 the frame is mid-grey, and the model is the plain one.

Shape legend: B images, C channels, H height, W width, D numbers of the program, P programs that are tried at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Bool, Float
from pydantic import Field, model_validator
from torch import Tensor, nn

from palimpsest.method_card import Config
from palimpsest.models.parts.part import Part


class ProgramConfig(Config):
    """Options of an input program."""

    height: int = Field(ge=1)
    """Of an image with its frame, pixels."""
    width: int = Field(ge=1)
    """The same."""
    grey: tuple[float, ...] = Field(min_length=1)
    """Of each channel as the model takes it: what a program of zeros shows."""
    reach: tuple[float, ...] = Field(min_length=1)
    """Of each channel: how far the program goes from there at most."""
    inner: tuple[int, int, int, int] | None = None
    """Top, left, bottom, right of the image in its frame, bottom and right not included; None = there is no frame."""
    seed: int = 0
    """Of the directions along which it is tried."""

    @property
    def numbers(self) -> int:
        """D, of the frame in all channels."""
        top, left, bottom, right = self.inner or (0, 0, 0, 0)
        return len(self.grey) * (self.height * self.width - (bottom - top) * (right - left))

    @model_validator(mode="after")
    def _leaves_a_frame(self) -> ProgramConfig:
        if len(self.grey) != len(self.reach):
            raise ValueError("grey and reach have as many numbers as the image has channels")
        if self.inner is not None:
            top, left, bottom, right = self.inner
            if not (0 <= top < bottom <= self.height and 0 <= left < right <= self.width):
                raise ValueError(f"inner is {self.inner}, which is no place in {self.height} x {self.width}")
            if (bottom - top, right - left) == (self.height, self.width):
                raise ValueError("inner leaves no frame; leave it out, then the program is laid over the whole image")
        return self


def frame_around(height: int, width: int, inner: tuple[int, int, int, int] | None) -> Bool[Tensor, "H W"]:
    """Where a program writes: around the inner place, or everywhere.

    >>> frame_around(2, 3, (0, 1, 2, 3)).int().tolist()
    [[1, 0, 0], [1, 0, 0]]
    """
    mask_HW = torch.ones(height, width, dtype=torch.bool)
    if inner is not None:
        top, left, bottom, right = inner
        mask_HW[top:bottom, left:right] = False
    return mask_HW


class Program(Part):
    """One program for all images."""

    Config = ProgramConfig
    kind = "program"
    folds_when_saved = False
    of_images = True

    grey_C: Tensor
    reach_C: Tensor
    mask_HW: Tensor

    def __init__(self, config: ProgramConfig) -> None:
        super().__init__(config)
        self.program_D = nn.Parameter(torch.zeros(config.numbers))
        self.register_buffer("mask_HW", frame_around(config.height, config.width, config.inner), persistent=False)
        self.register_buffer("grey_C", torch.tensor(config.grey), persistent=False)
        self.register_buffer("reach_C", torch.tensor(config.reach), persistent=False)
        self._tried_PD: Tensor | None = None

    @classmethod
    def example(cls, at: str, width: int) -> ProgramConfig:
        """A frame of one column."""
        return ProgramConfig(height=1, width=2, grey=(0.0,), reach=(1.0,), inner=(0, 0, 1, 1))

    @property
    def places(self) -> tuple[str, ...]:
        """None within the model."""
        return ()

    def attach(self, model: nn.Module) -> None:
        """Act on what the model is given."""
        self.to(next(model.parameters()).device)
        self.holds(model.register_forward_pre_hook(self._given, with_kwargs=True))

    def laid_on(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """Images with the program; of several that are tried, each on its part of the batch."""
        programs_PD = self.program_D[None] if self._tried_PD is None else self._tried_PD
        shape = (len(programs_PD), len(self.config.grey), -1)
        said = torch.tanh(programs_PD).reshape(shape) * self.reach_C[:, None] * self.alpha
        shown = images.new_zeros(len(programs_PD), *images.shape[1:])
        shown[..., self.mask_HW] = said.to(images.dtype)
        shown = shown.repeat_interleave(len(images) // len(programs_PD), 0) if len(programs_PD) > 1 else shown
        if self.config.inner is None:
            return images + shown
        grey = self.grey_C.to(images.dtype)[:, None, None]
        return torch.where(self.mask_HW, grey + shown, images)

    @contextmanager
    def trying(self, programs_PD: Float[Tensor, "P D"]) -> Iterator[None]:
        """In the block a batch is P times the same images, and each time gets one of these programs."""
        self._tried_PD = programs_PD
        try:
            yield
        finally:
            self._tried_PD = None

    def _given(self, _module: nn.Module, arguments: Any, given: Mapping[str, Any]) -> Any:
        """A forward pre-hook."""
        images = given.get("pixel_values")
        if self.is_off or not isinstance(images, Tensor) or images.ndim != 4:
            return None
        return arguments, {**given, "pixel_values": self.laid_on(images)}


PART = Program
