"""Which models are image classifiers, and how they want their images.

| config.json                      | what it is, and where the normalisation is                                     |
|----------------------------------|--------------------------------------------------------------------------------|
| ``*ForImageClassification*``     | transformers; in its preprocessor_config.json (processors.py)                  |
| ``palimpsest_resnet``            | ``SmallResNet``; in its config                                                 |
| ``pretrained_cfg``               | timm, through transformers' wrapper; in its config; needs the extra ``timm``   |
| ``normalize_mean``               | plain weights (plain.py)                                                       |
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palimpsest.data.encode.picture_size import PictureShape
from palimpsest.data.read.hub import is_reachable
from palimpsest.errors import MissingExtra, ModelError
from palimpsest.models.plain import numbers
from palimpsest.models.purposes import classifies_images
from palimpsest.untrusted import refusing

if TYPE_CHECKING:  # what kind a model is, is asked before torch is imported
    from palimpsest.data.encode.pixels import PixelFormat

_RESCALE = 1 / 255
_DONE_HERE = frozenset({"do_center_crop", "do_convert_rgb", "do_normalize", "do_rescale", "do_resize"})
_TIMM_LOADS = ("pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "cache_dir")
"""Arguments of timm's create_model by which weights would come from elsewhere than the folder's safetensors."""
_OTHER_STEPS = ("crop_pct", "include_top", "rescale_offset")


@dataclass(frozen=True)
class Preprocessor:
    """Content of a preprocessor_config.json, so that a changed model can be saved with it."""

    values: Mapping[str, Any]

    def save_pretrained(self, folder: str | Path) -> None:
        """Write it beside a model."""
        text = json.dumps(dict(self.values), indent=2, sort_keys=True) + "\n"
        (Path(folder) / "preprocessor_config.json").write_text(text, encoding="utf-8")


def is_image_config(config: Mapping[str, Any]) -> bool:
    """Does a config.json belong to an image classifier?"""
    return (
        config.get("model_type") == "palimpsest_resnet"
        or {"pretrained_cfg", "normalize_mean"} & config.keys() != set()
        or classifies_images(config)
    )


def stated_shape(config: Mapping[str, Any]) -> PictureShape | None:
    """Height, width and channels of the pictures that a model takes, where its config alone decides them.

    A preprocessor resizes, and is asked once it is there; timm's and our own formats resize nothing.

    >>> stated_shape({"image_mean": [0.5], "image_size": 14})
    (14, 14, 1)
    >>> stated_shape({"pretrained_cfg": {"input_size": [3, 8, 9]}})
    (8, 9, 3)
    """
    if "pretrained_cfg" in config:
        timm: Any = config["pretrained_cfg"]
        size: Any = timm.get("input_size") if isinstance(timm, Mapping) else None
        whole = isinstance(size, list | tuple) and len(size) == 3 and all(isinstance(n, int) for n in size)
        return (size[1], size[2], size[0]) if whole else None
    mean, side = config.get("image_mean"), config.get("image_size")
    return (side, side, len(mean)) if isinstance(mean, list | tuple) and isinstance(side, int) else None


def check_timm(config: Mapping[str, Any], source: str | Path) -> None:
    """Refuse a timm folder where timm is not installed.

    Raises:
        MissingExtra: names the extra.
        ModelError: it names an architecture of the Hub, or of another folder, or weights that lie elsewhere.
    """
    if "pretrained_cfg" not in config:
        return
    if ":" in str(config.get("architecture")):
        raise ModelError(f"model {source}: its architecture is looked up elsewhere; accepted: a name of timm's own")
    arguments = config.get("model_args") or {}
    if elsewhere := [name for name in _TIMM_LOADS if name in arguments]:
        raise ModelError(
            f"model {source}: model_args of its config.json have {elsewhere[0]}, by which weights would come from "
            "elsewhere; accepted: arguments of the architecture alone"
        )
    if find_spec("timm") is None:
        raise MissingExtra("timm", "timm", f"model {source}: a timm folder")


def without_said_twice(config: Any) -> Any:
    """A timm config as transformers can build it: timm writes the number of classes a second time, into model_args."""
    config.model_args = {key: value for key, value in (config.model_args or {}).items() if key != "num_classes"}
    return config


def read_preprocessor(source: str | Path, revision: str | None, config: Mapping[str, Any]) -> Preprocessor | None:
    """The preprocessor of a transformers image model; None when its config holds what one would.

    Raises:
        ModelError: there is none.
    """
    from transformers.image_processing_base import ImageProcessingMixin

    if {"image_mean", "pretrained_cfg"} & config.keys():
        return None
    away = not isinstance(source, Path) and not is_reachable()
    try:
        with refusing(ModelError):
            values, _ = ImageProcessingMixin.get_image_processor_dict(
                source, revision=revision, trust_remote_code=False, local_files_only=away
            )
    except ModelError as error:
        raise ModelError(
            f"model {source}: no preprocessor_config.json, so the normalisation of its images is unknown; "
            "save its image processor beside it"
        ) from error
    return Preprocessor(values)


def pixel_format(preprocessor: Preprocessor | None, config: Mapping[str, Any], source: str | Path) -> PixelFormat:
    """Size, channels and normalisation of a model's input.

    Args:
        preprocessor: of a transformers model, or None.
        config: of the model.
        source: for messages.

    Raises:
        ModelError: they cannot be told, or the preprocessor does something else to images.
    """
    from palimpsest.data.encode.pixels import PixelFormat

    where = f"model {source}"
    if preprocessor is not None:
        return _from_preprocessor(preprocessor.values, config, where)
    if "pretrained_cfg" in config:
        timm = config["pretrained_cfg"]
        _, height, width = timm["input_size"]
        return PixelFormat(height, width, numbers(timm["mean"], "mean", where), numbers(timm["std"], "std", where))
    mean, std = (numbers(config[key], key, where) for key in ("image_mean", "image_std"))
    return PixelFormat(config["image_size"], config["image_size"], mean, std)


def _from_preprocessor(values: Mapping[str, Any], config: Mapping[str, Any], where: str) -> PixelFormat:
    from palimpsest.models.processors import format_by, processor_of

    try:
        with refusing(lambda reason: ModelError(f"its preprocessor cannot be used ({reason})")):
            processor = processor_of(values, config)
            if processor is not None:
                return format_by(processor, values, config)
    except ModelError as error:
        raise ModelError(f"{where}: {error}") from error
    return _without_processor(values, where)


def _without_processor(values: Mapping[str, Any], where: str) -> PixelFormat:
    """What the keys alone say, where transformers has no image processor for them."""
    from palimpsest.data.encode.pixels import PixelFormat

    steps = _steps_beyond(values)
    if steps:
        raise ModelError(
            f"{where}: its preprocessor asks for {', '.join(steps)} and names no image processor of transformers that "
            "does it; accepted: one, as image_processor_type"
        )
    if values.get("do_rescale", True) and abs(values.get("rescale_factor", _RESCALE) - _RESCALE) > 1e-6:
        raise ModelError(f"{where}: its preprocessor rescales by {values['rescale_factor']}; accepted: 1/255")
    size = values.get("crop_size") if values.get("do_center_crop") else values.get("size")
    size = {"height": size, "width": size} if isinstance(size, int) else dict(size or {})
    height, width = _sides(size, where)
    # Only a plain resize is done here; what a crop would leave out is for the user to decide.
    plain = values.get("do_resize", True) and not values.get("do_center_crop") and "shortest_edge" not in size
    mean, std = _normalisation(values, where)
    return PixelFormat(height, width, mean, std, int(values.get("resample", 2)) if plain else None)


def _steps_beyond(values: Mapping[str, Any]) -> list[str]:
    """Steps that are asked for and not done here."""
    asked = [key for key, value in values.items() if value and (key.startswith("do_") or key in _OTHER_STEPS)]
    left_out = [] if values.get("do_rescale", True) else ["do_rescale false"]
    return [key for key in asked if key not in _DONE_HERE] + left_out


def _sides(size: Mapping[str, Any], where: str) -> tuple[int, int]:
    """Height and width of what a preprocessor makes."""
    height, width = (size.get(side, size.get("shortest_edge")) for side in ("height", "width"))
    if not (isinstance(height, int) and isinstance(width, int)):
        raise ModelError(f"{where}: its preprocessor gives no size of images but {size}; accepted: height and width")
    return height, width


def _normalisation(values: Mapping[str, Any], where: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, by which a preprocessor normalises; 0 and 1 where it does not."""
    if not values.get("do_normalize", True):
        return (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    return numbers(values.get("image_mean"), "image_mean", where), numbers(values.get("image_std"), "image_std", where)
