"""One rule that turns a picture into pixels, through whatever door it came: a file, a dataset, an object in memory.

| of a picture           | what becomes of it                                                                   |
|------------------------|--------------------------------------------------------------------------------------|
| mark of orientation    | the picture is turned as it says (EXIF, as ``datasets`` and every viewer do)         |
| 1 bit, 8 bit grey      | one channel; so is grey with transparency                                            |
| 16 bit grey            | one channel, of each value its upper 8 bits; colours of 16 bits likewise             |
| colours of any kind    | three channels: RGB; of palettes, CMYK and the like what Pillow makes of them        |
| transparency           | left out; the colours under it stay                                                  |
| 12, 32 bits, floats    | refused: which of their values is white is written nowhere                           |
| more than one frame    | refused, because only one of them would be learned; a second view for a camera is no |
|                        | frame (MPO)                                                                          |

Shape legend: H height, W width, C channels.
"""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from palimpsest.errors import DataError
from palimpsest.records import Image
from palimpsest.untrusted import refusing

if TYPE_CHECKING:
    from jaxtyping import UInt8

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "DIB", "GIF", "TIFF")
KINDS_OF_FILES = "PNG, JPEG, WebP, BMP, GIF or TIFF"
_GREY = frozenset({"1", "L", "LA", "La"})
_BITS = {"I": "32 bits per channel", "F": "32 bits per channel, with fractions"}
_BITS_OF_TIFF = 258
_PALETTES = frozenset({"P", "PA"})


def image_of(pixels_HWC: UInt8[np.ndarray, "H W C"], label: int | str, spelled: str | None = None) -> Image:
    """A content made of pixels; ``spelled`` as in ``Image``."""
    height, width, channels = pixels_HWC.shape
    return Image(pixels_HWC.tobytes(), (height, width, channels), label, spelled=spelled)


def decode(data: bytes) -> UInt8[np.ndarray, "H W C"]:
    """Pixels of a file.

    Raises:
        DataError: it is none of ``FORMATS``, or a picture that ``pixels_of`` refuses.
    """
    from PIL import Image as Pillow

    with refusing(_no_picture), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of marks beside the pixels that cannot be read
        warnings.simplefilter("error", Pillow.DecompressionBombWarning)
        with Pillow.open(io.BytesIO(data), formats=FORMATS) as picture:
            return pixels_of(picture)


def _no_picture(reason: str) -> DataError:
    named = reason.startswith("cannot identify image file")  # that it is an object in memory says nothing
    return DataError(f"not a readable {KINDS_OF_FILES} picture{'' if named else f' ({reason})'}")


def pixels_of(picture: Any) -> UInt8[np.ndarray, "H W C"]:
    """Pixels of a Pillow image, by the rule above.

    Raises:
        DataError: how many bits or frames it has, or that it cannot be read.
    """
    with refusing(_no_picture):  # its file is read only now
        _check_frames(picture)
        return _pixels_of(picture)


def _pixels_of(picture: Any) -> UInt8[np.ndarray, "H W C"]:
    from PIL import ImageOps

    depth = _depth(picture)
    if depth:
        raise DataError(f"{depth}; accepted: 8, or 16 of a grey picture, so save it with 8")
    turned = ImageOps.exif_transpose(picture)
    if turned.mode.startswith("I;16"):
        return _upper_bits(np.asarray(turned))
    if turned.mode in _GREY:
        return np.asarray(turned.convert("L"))[:, :, None]
    if turned.mode in _PALETTES:  # by way of transparency, or Pillow warns that it is lost
        turned = turned.convert("RGBA")
    return np.asarray(turned.convert("RGB"))


def _check_frames(picture: Any) -> None:
    frames = getattr(picture, "n_frames", 1) if getattr(picture, "is_animated", False) else 1
    if frames > 1 and picture.format != "MPO":
        raise DataError(f"{frames} pictures in one file; accepted: one, so save each by itself")


def _depth(picture: Any) -> str:
    """What is wrong with the bits of a channel; empty where nothing is."""
    if picture.mode in _BITS:
        return _BITS[picture.mode]
    stated = getattr(picture, "tag_v2", {}).get(_BITS_OF_TIFF, ())
    odd = [bits for bits in (stated if isinstance(stated, tuple) else (stated,)) if bits not in {1, 2, 4, 8, 16}]
    return f"{odd[0]} bits per channel" if odd and picture.mode.startswith("I;16") else ""


def _upper_bits(grey_HW: np.ndarray) -> UInt8[np.ndarray, "H W 1"]:
    """The upper 8 of 16 bits.

    >>> _upper_bits(np.array([[0, 255, 256, 65535]], dtype=np.uint16)).ravel().tolist()
    [0, 0, 1, 255]
    """
    if 0 < grey_HW.max() < 256:
        raise DataError(
            f"16 bits per channel, of which it uses those of 0 to {grey_HW.max()} alone, so that all of it would be "
            "black; save it with 8"
        )
    upper: UInt8[np.ndarray, "H W 1"] = (grey_HW >> 8).astype(np.uint8)[:, :, None]
    return upper
