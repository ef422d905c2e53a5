"""Random crops and mirror images against a loop over pixels."""

from __future__ import annotations

import torch

from palimpsest.data.encode.augment import Augmentation, cropped

IMAGES = torch.arange(2 * 3 * 4 * 1, dtype=torch.uint8).reshape(2, 3, 4, 1) + 1


def by_hand(image, top, left, mirror, padding):
    height, width, _ = image.shape
    out = torch.zeros_like(image)
    for row in range(height):
        for column in range(width):
            y, x = row + top - padding, column + left - padding
            if 0 <= y < height and 0 <= x < width:
                out[row, width - 1 - column if mirror else column] = image[y, x]
    return out


def test_every_crop_is_the_one_made_pixel_by_pixel():
    for top in range(5):
        for left in range(5):
            for mirror in (0, 1):
                shift, mirrored = torch.tensor([[top, left], [2, 2]]), torch.tensor([mirror, 0])
                found = cropped(IMAGES, shift, mirrored, 2)
                assert torch.equal(found[0], by_hand(IMAGES[0], top, left, mirror, 2))
                assert torch.equal(found[1], IMAGES[1])  # shifted by its padding: the image itself


def test_all_shifts_and_both_sides_come_up_equally_often():
    torch.manual_seed(0)
    image = torch.zeros(1, 3, 3, 1, dtype=torch.uint8)
    image[0, 1, 0] = 1  # a dot that tells shift and side
    found = Augmentation(padding=1)(image.expand(9000, -1, -1, -1))
    counts = found.long().sum(0)[:, :, 0]
    # Rows: 1/3 each. Columns: 1, 0 or outside as it is, 1, 2 or outside mirrored, 1/6 each.
    expected = 9000 / 3 * torch.tensor([1, 2, 1]) / 6
    assert torch.allclose(counts.float(), expected.expand(3, -1), rtol=0.15)


def test_without_mirror_and_padding_nothing_changes():
    assert torch.equal(Augmentation(padding=0, mirror=False)(IMAGES), IMAGES)


def test_the_global_random_numbers_decide_and_parts_are_like_the_whole():
    images = torch.randint(0, 256, (10, 6, 6, 3), dtype=torch.uint8)
    torch.manual_seed(3)
    whole = Augmentation()(images)
    torch.manual_seed(3)
    parts = [Augmentation()(part) for part in images.split([3, 7])]
    assert torch.equal(torch.cat(parts), whole)
    assert not torch.equal(Augmentation()(images), whole)
