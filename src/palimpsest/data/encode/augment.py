"""Train-time augmentation of small images: random crop of the padded image, random mirror.

Source: He et al. 2016, arXiv:1512.03385, section 4.2: 4 pixels padded on each side, a random crop of the image's size
of it or of its mirror image. The padding is black, as before normalisation.

Shape legend: B images, H height, W width, C channels, P padding.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Int, UInt8
from torch import Tensor


@dataclass(frozen=True)
class Augmentation:
    """What may happen to an image.

    Attributes:
        padding: P, pixels on each side; 0 = no crop.
        mirror: mirror half of the images left to right; wrong for digits and letters.
    """

    padding: int = 4
    mirror: bool = True

    def __call__(self, images_BHWC: UInt8[Tensor, "B H W C"]) -> UInt8[Tensor, "B H W C"]:
        """Augmented copies, by torch's global random numbers, which a run seeds and its checkpoints keep."""
        # Drawn image by image: a batch drawn in parts sees the same numbers.
        drawn_B3 = torch.randint(0, 2 * (2 * self.padding + 1), (len(images_BHWC), 3))
        shift_B2 = drawn_B3[:, :2] // 2
        mirror_B = drawn_B3[:, 2] % 2 * int(self.mirror)
        return cropped(images_BHWC, shift_B2, mirror_B, self.padding)


def cropped(
    images_BHWC: UInt8[Tensor, "B H W C"], shift_B2: Int[Tensor, "B 2"], mirror_B: Int[Tensor, "B"], padding: int
) -> UInt8[Tensor, "B H W C"]:
    """Each image padded, cropped at its own place, mirrored where asked.

    Args:
        images_BHWC: B images.
        shift_B2: first row and column of the crop in the padded image, 0 to 2P; P is the image itself.
        mirror_B: 1 mirrors the crop left to right.
        padding: P, pixels on each side, black.
    """
    num, height, width, _ = images_BHWC.shape
    padded_BHWC = F.pad(images_BHWC, (0, 0, padding, padding, padding, padding))
    rows_BH = shift_B2[:, :1] + torch.arange(height)
    column_BW = torch.arange(width).expand(num, -1)
    column_BW = torch.where(mirror_B[:, None] == 1, width - 1 - column_BW, column_BW) + shift_B2[:, 1:]
    return padded_BHWC[torch.arange(num)[:, None, None], rows_BH[:, :, None], column_BW[:, None, :]]
