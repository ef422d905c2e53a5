"""How a model wants its images: size, channels, normalisation.

Shape legend: B images, H height, W width, C channels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from palimpsest.data.encode.picture_size import refuse_channels, refuse_size
from palimpsest.errors import DataError
from palimpsest.records import Image
from palimpsest.untrusted import refusing

MOST_TIMES_AS_LONG = 500
LevelTable = tuple[tuple[float, ...], ...]
"""What each level, 0 to 255, of each channel becomes."""


@dataclass(frozen=True)
class PixelFormat:
    """Input of an image model.

    Attributes:
        height: pixels.
        width: pixels.
        mean: subtracted from each channel of an image in [0, 1]; its length is the number of channels.
        std: what the difference is divided by.
        resample: Pillow's number of the filter that brings other sizes to this one; None refuses them.
        levels: instead of mean and std, where these do not say what becomes of a value.
        steps: pixels of any picture -> pixels of this format, where more is done than to resize it.
    """

    height: int
    width: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resample: int | None = None
    levels: LevelTable | None = field(default=None, repr=False)
    steps: Callable[[np.ndarray], np.ndarray] | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width, channels."""
        return self.height, self.width, len(self.mean)

    def normalise(self, images_BHWC: UInt8[Tensor, "B H W C"]) -> Float[Tensor, "B C H W"]:
        """(pixel / 255 - mean) / std, or what the levels say, in fp32.

        >>> half = PixelFormat(1, 1, (0.5,), (0.25,))
        >>> half.normalise(torch.tensor([[[[255]]]], dtype=torch.uint8)).item()
        2.0
        """
        if self.levels is not None:
            table_CL = torch.tensor(self.levels, device=images_BHWC.device)
            channel_C = torch.arange(len(self.levels), device=images_BHWC.device)
            return table_CL[channel_C, images_BHWC.long()].permute(0, 3, 1, 2)
        mean_C, std_C = (torch.tensor(values, device=images_BHWC.device) for values in (self.mean, self.std))
        return ((images_BHWC.float() / 255 - mean_C) / std_C).permute(0, 3, 1, 2)

    def pixels_of(self, image: Image) -> UInt8[np.ndarray, "H W C"]:
        """An image's pixels in this format, resized where the format says how.

        Raises:
            DataError: another number of channels, or another size and no filter to resize with.
        """
        pixels_HWC = np.frombuffer(image.pixels, dtype=np.uint8).reshape(image.shape)
        if self.steps is not None:
            return self._stepped(self.steps, pixels_HWC)
        if image.shape == self.shape:
            return pixels_HWC
        refuse_channels(image.shape, self.shape)
        if self.resample is None:
            refuse_size(image.shape, self.shape)
        return self.resized(pixels_HWC)

    def _stepped(
        self, steps: Callable[[np.ndarray], np.ndarray], pixels_HWC: UInt8[np.ndarray, "h w C"]
    ) -> UInt8[np.ndarray, "H W C"]:
        """What the steps make of a picture, if it has this format then."""
        short, long = sorted(pixels_HWC.shape[:2])
        if long > MOST_TIMES_AS_LONG * short:  # its shorter side may become as long as a side of the format
            raise DataError(f"{short} by {long} pixels; accepted: at most {MOST_TIMES_AS_LONG} times as long as wide")
        with refusing(lambda reason: DataError(f"the model's preprocessor cannot take it ({reason})")):
            found = steps(pixels_HWC)
        if found.shape != self.shape:
            made, wanted = ("x".join(map(str, shape)) for shape in (found.shape, self.shape))
            raise DataError(f"{made} after the model's preprocessor; accepted: {wanted}, so that all are of one size")
        return found

    def resized(self, pixels_HWC: UInt8[np.ndarray, "h w C"]) -> UInt8[np.ndarray, "H W C"]:
        """Pixels of another size in this one, by the filter."""
        from PIL import Image as Pillow

        grey = pixels_HWC.shape[2] == 1
        picture = Pillow.fromarray(pixels_HWC[:, :, 0] if grey else pixels_HWC)
        resized = np.asarray(picture.resize((self.width, self.height), self.resample))
        return resized[:, :, None] if grey else resized
