"""What a preprocessor_config.json does to a picture, done by transformers' own image processor.

A processor's steps are of two kinds. Some move pixels (resize, crop, pad, order of channels): they give bytes again, so
a set is kept as bytes, and augmented as such. The others look at one value at a time (rescale, normalise), so that all
they do is in a table: what each of the 256 levels of a channel becomes. Both are asked of the processor, never read off
its keys, and together compared with its own answer to pictures of several shapes: a step that fits into neither is
refused. Always its Pillow version is asked, so that a plan gives the same values with and without torchvision.

Shape legend: H height, W width, C channels, L = 256 levels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from palimpsest.data.encode.pixels import LevelTable, PixelFormat
from palimpsest.errors import ModelError

_Pictures = Sequence[np.ndarray]
PROBES = ((40, 40), (37, 53), (97, 61))
"""Heights and widths of the pictures by which a processor is known."""
MOST_PIXELS = 8192  # of a side
SMALLEST_SHARE = 0.1
_LEVELS = 256
_CLOSE = 1e-5
_WITHOUT = {"do_rescale": False, "do_normalize": False, "include_top": False}
_SIDES = ("size", "crop_size", "pad_size")
_MOVES = frozenset({"do_center_crop", "do_pad", "do_resize", "do_thumbnail"})
_USUAL = frozenset({"do_resize", "do_rescale", "do_normalize"})


@dataclass(frozen=True)
class Steps:
    """Steps of a processor that move pixels.

    Attributes:
        kind: class of the processor; two of one class with the same values do the same.
        values: of its configuration.
        processor: the processor itself.
    """

    kind: str
    values: Mapping[str, Any] = field(hash=False)
    processor: Any = field(repr=False, compare=False)

    def __call__(self, pixels_HWC: np.ndarray) -> np.ndarray:
        """Pixels as bytes, moved: (height, width, channels) of any picture -> of this model's."""
        taken = {key: value for key, value in _WITHOUT.items() if key in _known(self.processor)}
        moved_CHW = _asked(self.processor, pixels_HWC, **taken)
        if moved_CHW.dtype != np.uint8:
            raise ModelError("values that are no bytes once its pictures are resized and cropped")
        return np.ascontiguousarray(moved_CHW.transpose(1, 2, 0))


def processor_of(values: Mapping[str, Any], config: Mapping[str, Any]) -> Any:
    """The processor that a configuration belongs to; None where transformers has none for it.

    Args:
        values: of preprocessor_config.json; it names the class, or a feature extractor of old.
        config: of the model; its type tells the class where nothing else does.
    """
    import transformers
    from transformers.image_processing_utils import BaseImageProcessor
    from transformers.models.auto.image_processing_auto import IMAGE_PROCESSOR_MAPPING_NAMES

    named = values.get("image_processor_type") or values.get("feature_extractor_type")
    if named:
        names = [str(named).removesuffix("Fast").removesuffix("Pil").replace("FeatureExtractor", "ImageProcessor")]
    else:
        by_backend = IMAGE_PROCESSOR_MAPPING_NAMES.get(str(config.get("model_type")), {})
        names = list(by_backend.values() if isinstance(by_backend, Mapping) else filter(None, by_backend))
    for name in (*(f"{name}Pil" for name in names), *names):
        kind = getattr(transformers, str(name), None)
        # A class whose package is missing is a stand-in, which raises when it is made.
        if isinstance(kind, type) and issubclass(kind, BaseImageProcessor) and not getattr(kind, "is_dummy", False):
            making: Any = kind
            return making.from_dict(dict(values))
    if named:
        raise ModelError(f"its preprocessor is a {named}, which transformers does not have here")
    return None


def format_by(processor: Any, values: Mapping[str, Any], config: Mapping[str, Any]) -> PixelFormat:
    """The input of a model, as its processor makes it.

    Args:
        processor: from ``processor_of``.
        values: of the preprocessor_config.json.
        config: of the model: its channels, and its size where the processor leaves that of a picture alone.

    Raises:
        ModelError: it does something that is not done here; names the steps.
    """
    _check_sides(values)
    _check_steps(processor, values)
    channels = 1 if config.get("num_channels") == 1 else 3
    pictures = [_probe(*shape, channels) for shape in PROBES]
    steps = Steps(type(processor).__name__, dict(values), processor)
    moved = [steps(picture) for picture in pictures]
    levels_CL = _levels(processor, channels)
    _check_split(processor, values, pictures, moved, levels_CL)
    left_alone = all(after.shape == before.shape for after, before in zip(moved, pictures, strict=True))
    height, width = _stated_sides(values, config) if left_alone else moved[0].shape[:2]
    plain = _plain(processor.to_dict(), height, width)
    if plain is not None and _same(plain, pictures, moved, levels_CL):
        return plain
    nothing = (0.0,) * len(levels_CL), (1.0,) * len(levels_CL)
    return PixelFormat(height, width, *nothing, levels=levels_CL, steps=steps)


def _check_split(
    processor: Any,
    values: Mapping[str, Any],
    pictures: _Pictures,
    moved: _Pictures,
    levels_CL: LevelTable,
) -> None:
    """Refuse a processor of which the two kinds of steps are not all that it does."""
    for picture, pixels in zip(pictures, moved, strict=True):
        made, split = _asked(processor, picture), _looked_up(pixels, levels_CL)
        if made.shape != split.shape or not np.allclose(made, split, atol=_CLOSE, rtol=_CLOSE):
            raise ModelError(f"{_stepped(values)}, which is not done here")


def _stated_sides(values: Mapping[str, Any], config: Mapping[str, Any]) -> tuple[int, int]:
    """Height and width that pictures must have, where a processor leaves them as they are."""
    for given in (values.get("size"), config.get("image_size")):
        if isinstance(given, int):
            return given, given
        if isinstance(given, list | tuple) and len(given) == 2:
            return int(given[0]), int(given[1])
        if isinstance(given, Mapping) and {"height", "width"} <= given.keys():
            return int(given["height"]), int(given["width"])
    raise ModelError("its preprocessor does not resize, and no size is given; accepted: size, with height and width")


def _plain(effective: Mapping[str, Any], height: int, width: int) -> PixelFormat | None:
    """A format that only resizes and normalises, if that may be all that a processor does.

    Args:
        effective: all values of the processor, those of its class too.
        height: of what it makes.
        width: likewise.
    """
    more = [key for key, value in effective.items() if key.startswith("do_") and value and key not in _USUAL]
    if more or not effective.get("do_normalize"):
        return None
    mean, std = (tuple(map(float, effective[key])) for key in ("image_mean", "image_std"))
    resample = int(effective.get("resample", 2)) if effective.get("do_resize") else None
    return PixelFormat(height, width, mean, std, resample)


def _known(processor: Any) -> frozenset[str]:
    """Names of the options that a processor takes."""
    return frozenset(getattr(processor, "_valid_kwargs_names", None) or type(processor).valid_kwargs.__annotations__)


def _asked(processor: Any, pixels_HWC: np.ndarray, **taken: Any) -> np.ndarray:
    """What a processor makes of one picture, (C, H, W)."""
    from PIL import Image as Pillow

    picture = Pillow.fromarray(pixels_HWC[:, :, 0] if pixels_HWC.shape[2] == 1 else pixels_HWC)
    made = dict(processor(picture, return_tensors="np" if type(processor).__name__.endswith("Pil") else "pt", **taken))
    values = np.asarray(made.get("pixel_values", ()))
    if set(made) != {"pixel_values"} or values.ndim != 4:
        raise ModelError(f"its preprocessor makes {', '.join(made)}; accepted: pixel_values of one size")
    found: np.ndarray = values[0]
    return found


def _probe(height: int, width: int, channels: int) -> np.ndarray:
    return np.random.default_rng(height).integers(0, _LEVELS, (height, width, channels), dtype=np.uint8)


def _levels(processor: Any, channels: int) -> LevelTable:
    """What each level of each channel becomes, by a picture of all of them that is neither resized nor cropped."""
    still = dict.fromkeys(_MOVES & _known(processor), False)
    all_HWC = np.arange(_LEVELS, dtype=np.uint8).reshape(16, 16, 1).repeat(channels, axis=2)
    made_CHW = _asked(processor, all_HWC, **still).astype(np.float32)
    if made_CHW.shape[1:] != (16, 16):
        raise ModelError("its preprocessor changes the size of a picture where it was told not to")
    return tuple(tuple(channel.ravel().tolist()) for channel in made_CHW)


def _looked_up(pixels_HWC: np.ndarray, levels_CL: LevelTable) -> np.ndarray:
    return np.stack([np.asarray(levels_L)[pixels_HWC[:, :, c]] for c, levels_L in enumerate(levels_CL)])


def _same(
    plain: PixelFormat, pictures: Sequence[np.ndarray], moved: Sequence[np.ndarray], levels_CL: LevelTable
) -> bool:
    """Does a plain format give the values of a processor?"""
    if len(plain.mean) != len(levels_CL):
        return False
    level_L = np.arange(_LEVELS) / 255
    own = [(level_L - mean) / std for mean, std in zip(plain.mean, plain.std, strict=True)]
    if not np.allclose(own, levels_CL, atol=_CLOSE, rtol=_CLOSE):
        return False
    if plain.resample is None:  # of the right size already, or refused
        return True
    return all(np.array_equal(plain.resized(p), after) for p, after in zip(pictures, moved, strict=True))


def _check_sides(values: Mapping[str, Any]) -> None:
    """Refuse a size that no picture has, before one is made."""
    for key in _SIDES:
        largest = max(_numbers_in(values.get(key)), default=0)
        if largest > MOST_PIXELS:
            raise ModelError(f"its preprocessor has {key} {largest}; accepted: at most {MOST_PIXELS} pixels a side")
    _check_share(values.get("crop_pct"))


def _check_share(share: Any) -> None:
    """Refuse one by which a picture would be resized, before it is cropped, to what nobody can hold."""
    if isinstance(share, int | float) and 0 < share < SMALLEST_SHARE:
        raise ModelError(f"its preprocessor has crop_pct {share}; accepted: {SMALLEST_SHARE} and up")


def _numbers_in(value: Any) -> Iterator[int | float]:
    """The numbers of a size, however it is written."""
    if isinstance(value, Mapping):
        value = list(value.values())
    for one in value if isinstance(value, list | tuple) else [value]:
        if isinstance(one, list | tuple):
            yield from _numbers_in(one)
        elif isinstance(one, int | float):
            yield one


def _check_steps(processor: Any, values: Mapping[str, Any]) -> None:
    """Refuse a step that is asked for and that the processor does not know."""
    known = _known(processor)
    strange = [key for key, value in values.items() if key.startswith("do_") and value and known and key not in known]
    if strange:
        kind = type(processor).__name__
        raise ModelError(f"its preprocessor asks for {', '.join(strange)}, which transformers' {kind} does not do")


def _stepped(values: Mapping[str, Any]) -> str:
    """The steps that a configuration asks for, beside the usual ones."""
    steps = [key for key, value in values.items() if key.startswith("do_") and value and key not in _USUAL]
    return f"its preprocessor does {', '.join(steps) or 'another step than resize, rescale and normalise'}"
