"""The input of an image model against its formula, and against Pillow."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

from palimpsest.data.encode.pixels import PixelFormat
from palimpsest.errors import DataError
from palimpsest.records import Image


def test_images_are_resized_as_the_preprocessor_would():
    picture = np.random.default_rng(0).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    resized = PixelFormat(8, 8, (0.5,) * 3, (0.5,) * 3, resample=3).pixels_of(Image(picture.tobytes(), (5, 6, 3), 0))
    expected = np.asarray(Pillow.fromarray(picture).resize((8, 8), Pillow.Resampling.BICUBIC))
    assert np.array_equal(resized, expected)


def test_the_normalisation_is_that_of_its_formula():
    """Two pixels of three channels, (0, .2, .4) and (.6, .8, 1), minus (0, .2, .4), over (1, .5, .25)."""
    images = torch.tensor([0, 51, 102, 153, 204, 255], dtype=torch.uint8).reshape(1, 1, 2, 3)
    normalised = PixelFormat(1, 2, (0.0, 0.2, 0.4), (1.0, 0.5, 0.25)).normalise(images)
    assert normalised.flatten().tolist() == pytest.approx([0.0, 0.6, 0.0, 1.2, 0.0, 2.4], abs=1e-6)


def test_an_image_of_the_right_size_is_left_alone():
    picture = np.random.default_rng(0).integers(0, 256, (2, 3, 1), dtype=np.uint8)
    kept = PixelFormat(2, 3, (0.5,), (0.5,), resample=3).pixels_of(Image(picture.tobytes(), (2, 3, 1), 0))
    assert np.array_equal(kept, picture)


def test_grey_images_are_resized_too():
    grey = Image(bytes(range(16)), (4, 4, 1), 0)
    assert PixelFormat(2, 3, (0.5,), (0.5,), resample=2).pixels_of(grey).shape == (2, 3, 1)


@pytest.mark.parametrize(
    ("shape", "words"),
    [((2, 2, 1), "1 channel; accepted: 3, as many as the model takes"), ((4, 1, 3), "4x1 pixels; accepted: 2x2")],
)
def test_other_shapes_are_refused_without_a_filter(shape, words):
    with pytest.raises(DataError, match=words):
        PixelFormat(2, 2, (0.5,) * 3, (0.5,) * 3).pixels_of(Image(bytes(int(np.prod(shape))), shape, 0))
