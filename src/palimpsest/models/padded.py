"""Smaller pictures in the middle of a larger frame of mid-grey, as a black box takes them.

Shape legend: h, w sides of a picture, H, W of the frame, C channels.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from jaxtyping import UInt8

from palimpsest.data.encode.pixels import PixelFormat
from palimpsest.errors import DataError
from palimpsest.models.black_boxes.image_box import ImageFacts

GREY = 128
"""Of a frame, 0 to 255: the middle of what a program can make of it."""


def in_a_frame(pixels: UInt8[np.ndarray, "h w C"], height: int, width: int) -> UInt8[np.ndarray, "H W C"]:
    """A picture in the middle of a frame; one of the frame's size is itself.

    Raises:
        DataError: it is larger.

    >>> in_a_frame(np.zeros((1, 1, 1), np.uint8), 1, 3).ravel().tolist()
    [128, 0, 128]
    """
    high, wide, channels = pixels.shape
    if high > height or wide > width:
        raise DataError(f"{high}x{wide} pixels; accepted: at most {height}x{width}, the frame that the model takes")
    framed = np.full((height, width, channels), GREY, dtype=np.uint8)
    top, left = (height - high) // 2, (width - wide) // 2
    framed[top : top + high, left : left + wide] = pixels
    return framed


def format_of_black_box(facts: ImageFacts) -> PixelFormat:
    """How its pictures are made."""
    height, width = facts.image_size
    steps = partial(in_a_frame, height=height, width=width)
    return PixelFormat(height, width, facts.image_mean, facts.image_std, steps=steps)
