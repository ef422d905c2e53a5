"""Where a model is: a folder, plain weights, or a Hub name. Looked at before anything heavy is imported."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from palimpsest.data.encode.picture_size import PictureShape
from palimpsest.data.read.classes import ClassNames, names_of_config
from palimpsest.data.read.hub import how_to_pin, is_reachable
from palimpsest.errors import ModelError
from palimpsest.models.adapter_base import adapter_in, base_of, check_bases
from palimpsest.models.at_hand import check_at_hand
from palimpsest.models.black_box_file import black_box_in, config_of_black_box, facts_in
from palimpsest.models.deciding import content_digest, deciding_files, file_digest
from palimpsest.models.families import Family, family_that_takes, of_config
from palimpsest.models.half_there import check_real, check_unquantised, check_whole_files
from palimpsest.models.images import check_timm, is_image_config, stated_shape
from palimpsest.models.own_code import check_data_only, check_weights_are_safe, config_in
from palimpsest.models.parts.parts_folder import BASE, bears_parts, check_parts
from palimpsest.models.plain import plain_weights, read_json_object
from palimpsest.models.proportions import check_proportions, tensor_shapes
from palimpsest.models.purposes import check_purpose
from palimpsest.records import digest
from palimpsest.untrusted import refusing

_UNSAID = 2
_OF_PLAIN = ("normalize_mean", "normalize_std", "image_size")


def check_folder(folder: Path) -> None:
    """Refuse a folder that cannot be a model, before anything heavy is imported or written.

    Raises:
        ModelError: not a folder, no readable config.json, or no safetensors weights.
    """
    if (plain := plain_weights(folder)) is not None:
        check_real(plain.file)
        return
    if (file := black_box_in(folder)) is not None:
        config_of_black_box(file)
        return
    if not folder.is_dir():
        raise ModelError(f"model {folder}: no such folder; give a folder written by save_pretrained")
    _check_config(folder)
    check_data_only(folder)
    if bears_parts(folder):
        check_folder(check_parts(folder))
        return
    check_weights_are_safe(folder, adapter=(folder / "adapter_config.json").is_file())
    check_whole_files(folder)
    check_bases(folder)
    check_proportions(folder, read_config(folder))


def _check_config(folder: Path) -> None:
    """Refuse a folder whose configuration is that of no model."""
    name = "adapter_config.json" if (folder / "adapter_config.json").is_file() else "config.json"
    content = config_in(folder / name)
    if content is None:
        raise ModelError(f"model {folder}: no config.json; give a folder written by save_pretrained")
    if not ({"model_type", "peft_type", "pretrained_cfg"} & content.keys()):
        raise ModelError(
            f"model {folder}: {name} names no model_type; give the folder of a causal LM or an image classifier"
        )
    check_unquantised(content, folder)


def place_of(source: str | Path, revision: str | None = None) -> str | Path:
    """Where transformers finds a source: a folder that could be a model, or a Hub name with its commit.

    Args:
        source: folder or Hub name; no plain weights.
        revision: the commit of a Hub name; required there so that a plan always means the same weights.

    Raises:
        ModelError: it is neither.
    """
    path = Path(source)
    if path.exists() or path.is_absolute() or str(source).startswith((".", "~")):
        check_folder(path.expanduser())
        return path.expanduser()
    if str(source).count("/") > 1 or not revision:
        raise ModelError(f"model {str(source)!r}: no such folder; {how_to_pin(str(source))}")
    return str(source)


def check_source(source: str | Path, revision: str | None = None) -> None:
    """Refuse what cannot be a model, as far as that shows without loading it.

    Raises:
        ModelError: as ``place_of``, plain weights that cannot be used, or weights of a module that is not in memory.
        MissingExtra: it is a timm folder and timm is not installed.
    """
    plain = plain_weights(source)
    if plain is not None:
        check_real(plain.file)
    else:
        place = place_of(source, revision)
        if isinstance(place, Path):
            config = read_config(place)
            check_at_hand(config, source)
            check_purpose(config, source)
            check_timm(config, source)


def family_of(source: str | Path, revision: str | None = None) -> Family:
    """The family of a source, as far as its config tells. Loads no weights."""
    if plain_weights(source) is not None:
        return family_that_takes("image")
    path = Path(source).expanduser()
    if (file := black_box_in(path)) is not None:
        return of_config(config_of_black_box(file))
    if not path.is_dir() and revision is None:  # no model at all, and nothing to ask the Hub for
        return of_config({})
    place = path if path.is_dir() else str(source)
    if path.is_dir() and adapter_in(path):
        return family_of(*base_of(path, revision))
    return of_config(read_config(place, revision))


def check_is_of_family(source: str | Path, revision: str | None = None) -> None:
    """Refuse what a family takes for its own by default and cannot load; for messages that name the kind of a model.

    Raises:
        ModelError: such as an image model without the head of a classifier, which is no causal LM.
    """
    if plain_weights(source) is None:
        check_source(source, revision)
        family_of(source, revision).check_config(_config_of(source, revision), source)


def is_image_model(source: str | Path, revision: str | None = None) -> bool:
    """Is a source an image classifier, as far as its config tells?"""
    return family_of(source, revision).takes == "image"


def classes_of(source: str | Path) -> tuple[int, ClassNames] | None:
    """Number and names of a local classifier's classes, as far as that shows without loading it; else None."""
    plain = plain_weights(source)
    if plain is not None:
        rows = _shape_in(plain.file, "linear.weight")
        return None if not rows else (rows[0], ClassNames({}))
    config = read_config(Path(source).expanduser())
    if not (config and of_config(config).has_classes):
        return None
    number = _classes_said(config)
    return None if number is None else (number, class_names_in(source))


def picture_shape_of(source: str | Path) -> PictureShape | None:
    """Height, width and channels of the pictures of a local classifier that resizes none, by its config; else None."""
    plain = plain_weights(source)
    if plain is not None:
        return stated_shape({"image_mean": plain.config.get("normalize_mean"), "image_size": plain.image_size})
    config = read_config(Path(source).expanduser())
    return stated_shape(config) if is_image_config(config) else None


def _classes_said(config: Mapping[str, Any]) -> int | None:
    """How many classes a config says; transformers writes none down where they are two without names."""
    labels = config.get("id2label")
    if isinstance(labels, dict) and labels:
        return len(labels)
    number = config.get("num_classes") if "pretrained_cfg" in config else config.get("num_labels", _UNSAID)
    return number if isinstance(number, int) else None


def _shape_in(file: Path, tensor: str) -> list[int] | None:
    """Shape of a tensor, from the header of its safetensors file alone."""
    return tensor_shapes(file).get(tensor)


def read_config(source: str | Path, revision: str | None = None, name: str = "config.json") -> Mapping[str, Any]:
    """A config file of a folder or a Hub name; empty when there is none. That of a version with parts is its base's."""
    if isinstance(source, Path):
        if (file := black_box_in(source)) is not None:
            return config_of_black_box(file)
        bearing = name == "config.json" and bears_parts(source)
        return read_json_object(source / BASE / name if bearing else source / name)
    from transformers import PreTrainedConfig

    try:
        with refusing(ModelError):
            found = PreTrainedConfig.get_config_dict(
                source, revision=revision, trust_remote_code=False, local_files_only=not is_reachable()
            )
    except ModelError:
        return {}
    config: Mapping[str, Any] = found[0]
    return config


def _config_of(source: str | Path, revision: str | None) -> Mapping[str, Any]:
    """That of a folder, a description or a Hub name."""
    path = Path(source).expanduser()
    return read_config(path if path.is_dir() or black_box_in(path) else str(source), revision)


def class_names_in(source: str | Path, revision: str | None = None) -> ClassNames:
    """Name -> class, as far as a source's config names its classes; loads nothing.

    Args:
        source: folder or Hub name.
        revision: commit of a Hub name.
    """
    return names_of_config(_config_of(source, revision))


def source_digest(source: str | Path, revision: str | None = None) -> str:
    """SHA-256 over what makes a source answer as it does; a Hub name stands for itself.

    Every file that decides an answer counts (``deciding.py``), of a configuration without what saving alone changes; of
    an adapter also the base that it is laid on.

    Raises:
        ModelError: a local source that cannot be a model.
    """
    plain = plain_weights(source)
    if plain is not None:
        settings = {name: repr(plain.config.get(name)) for name in _OF_PLAIN}
        return digest({"architecture": plain.architecture, "weights": file_digest(plain.file), **settings})
    path = Path(source).expanduser()
    if (file := black_box_in(path)) is not None:
        return facts_in(config_of_black_box(file), file).source_digest
    if not path.exists():
        return f"{source}@{revision}"
    check_folder(path)
    parts = {name: content_digest(file) for name, file in deciding_files(path).items()}
    base = {"base of the adapter": source_digest(*base_of(path, revision))} if adapter_in(path) else {}
    return digest({**parts, **base})
