"""What images that stay say of another one's class."""

from __future__ import annotations

import pytest
import torch

from palimpsest.control.look_shadow import LookShadow
from palimpsest.data.encode.image import ImageSet
from palimpsest.data.encode.pixels import PixelFormat


def images(grey: list[int], labels: list[int], side: int = 4) -> ImageSet:
    """Images of one grey each."""
    pixels_NHWC = torch.tensor(grey, dtype=torch.uint8)[:, None, None, None].expand(-1, side, side, 3).clone()
    ids = tuple(f"i{n}" for n in range(len(grey)))
    return ImageSet(ids, pixels_NHWC, torch.tensor(labels), PixelFormat(side, side, (0.5,) * 3, (0.5,) * 3))


@pytest.mark.parametrize("side", [4, 40])
def test_a_class_is_that_of_most_that_look_like_it(side):
    """The five nearest of a dark one are four of class 0 and one of 1; of a light one four of class 1 and one of 2."""
    shadow = LookShadow([images([0, 2, 4, 6, 8, 240, 242, 244, 246, 248], [0] * 4 + [1] + [1] * 4 + [2], side)])
    assert shadow.tells(images([3, 3, 245, 245, 3], [0, 1, 1, 2, 7], side)) == {
        "i0": True,
        "i1": False,
        "i2": True,
        "i3": False,
        "i4": False,
    }


def test_fewer_that_stay_than_neighbours_all_count_and_a_draw_counts_for_it():
    shadow = LookShadow([images([0, 250], [0, 1])])
    assert shadow.tells(images([0, 0], [0, 1])) == {"i0": True, "i1": True}
    assert shadow.classes == {0, 1}


def test_of_nothing():
    assert LookShadow([]).classes == frozenset()
