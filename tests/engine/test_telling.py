"""Rows whose class what stays tells, of a run's sets of images."""

from __future__ import annotations

from typing import Any

import torch

from palimpsest.data.encode.image import ImageSet
from palimpsest.data.encode.pixels import PixelFormat
from palimpsest.engine.telling import told_of


def shades(name: str, labels: list[int], *, of: list[int] | None = None) -> ImageSet:
    """Images as light as their class (``of``, else the label), no two alike."""
    light = torch.tensor([60 * c + n % 20 for n, c in enumerate(labels if of is None else of)], dtype=torch.uint8)
    pixels_NHWC = light[:, None, None, None].expand(-1, 4, 4, 3).clone()
    ids = tuple(f"{name}{n}" for n in range(len(labels)))
    return ImageSet(ids, pixels_NHWC, torch.tensor(labels), PixelFormat(4, 4, (0.5,) * 3, (0.5,) * 3))


def sets(forget: ImageSet) -> dict[str, Any]:
    return {"forget": forget, "retain": shades("r", [0, 1, 2] * 20), "holdout": shades("h", [0, 1, 2] * 20)}


def test_images_that_look_as_their_class_leave_the_level_as_it_is():
    assert told_of(sets(shades("f", [0, 1, 2] * 3))) is None


def test_images_with_wrong_labels_are_told():
    found = told_of(sets(shades("f", [1, 2, 0, 1, 2, 0], of=[0, 0, 1, 2, 1, 2])))
    assert found is not None
    assert not any(found.forget.values())
    assert all(found.unseen.values())


def test_a_class_that_goes_is_in_neither():
    """Nothing that stays knows of class 3; the rows of class 0 have wrong labels still."""
    found = told_of(sets(shades("f", [3] * 5 + [0] * 6, of=[3] * 5 + [2] * 6)))
    assert found is not None
    assert list(found.forget) == [f"f{n}" for n in range(5, 11)]
    assert told_of(sets(shades("f", [3] * 5))) is None


def test_without_a_holdout_or_what_stays_nothing_is_told():
    given = sets(shades("f", [1] * 6, of=[0] * 6))
    assert told_of({name: given[name] for name in ("forget", "retain")}) is None
    assert told_of({name: given[name] for name in ("forget", "holdout")}) is None
