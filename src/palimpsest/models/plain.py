"""Plain safetensors of a small ResNet, with the name of the architecture and a config.json beside them.

| source                                               | architecture             |
|------------------------------------------------------|--------------------------|
| ``resnet20@FOLDER``, ``resnet20@FOLDER/any.safetensors`` | the one named            |
| ``FOLDER/resnet20.safetensors``                      | the name of the file     |
| FOLDER                                               | of the one file in it    |

The config.json gives normalize_mean and normalize_std, one number per channel of images in [0, 1], and image_size where
that is not 32; classes, channels and widths are read off the weights.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from palimpsest.errors import ModelError, reachable, unknown
from palimpsest.models.architectures import ARCHITECTURES
from palimpsest.untrusted import parse_json

_NAMED = re.compile(r"(?P<architecture>[\w-]+)@(?P<path>.+)")


@dataclass(frozen=True)
class PlainWeights:
    """Weights without a model class.

    Attributes:
        architecture: one of ``ARCHITECTURES``.
        file: the safetensors file.
        config: content of the config.json beside it.
    """

    architecture: str
    file: Path
    config: Mapping[str, Any]

    @property
    def image_size(self) -> Any:
        """Height and width in pixels, as the config.json says it; nobody has checked it yet."""
        return self.config.get("image_size", 32)


def plain_weights(source: str | Path) -> PlainWeights | None:
    """What a source names as plain weights; None when it is something else.

    Raises:
        ModelError: it names plain weights that cannot be used.
    """
    path = Path(reachable(source, "model", ModelError)).expanduser()
    named = None if path.exists() else _NAMED.fullmatch(str(source))
    if named is not None:
        return _plain(_known(named["architecture"], source), Path(named["path"]).expanduser(), source)
    if path.is_file() and path.suffix == ".safetensors" and path.stem in ARCHITECTURES:
        return _plain(path.stem, path, source)
    if path.is_dir() and "normalize_mean" in read_json_object(path / "config.json"):
        return _plain(None, path, source)
    return None


def _known(architecture: str, source: str | Path) -> str:
    if architecture not in ARCHITECTURES:
        raise ModelError(f"model {source}: {unknown('architecture', architecture, ARCHITECTURES)}")
    return architecture


def _plain(architecture: str | None, path: Path, source: str | Path) -> PlainWeights:
    """The file of an architecture in a folder, or the architecture of a file by its name."""
    file = path if path.suffix == ".safetensors" else _file_in(path, architecture, source)
    if not file.is_file():
        raise ModelError(f"model {source}: no file {file}; give ARCHITECTURE@FOLDER or ARCHITECTURE@FILE.safetensors")
    config = read_json_object(file.parent / "config.json")
    if not {"normalize_mean", "normalize_std"} <= config.keys():
        raise ModelError(
            f"model {source}: no normalize_mean and normalize_std in {file.parent / 'config.json'}; plain weights need "
            "them, one number per channel, of images in [0, 1]"
        )
    return PlainWeights(architecture or _known(file.stem, source), file, config)


def _file_in(folder: Path, architecture: str | None, source: str | Path) -> Path:
    files = sorted(folder.glob("*.safetensors"))
    own = folder / f"{architecture}.safetensors"
    if own in files or not files:
        return own
    if len(files) > 1:
        options = ", ".join(f"{file.stem}@{folder}" for file in files)
        raise ModelError(f"model {source}: holds {len(files)} models; accepted: {options}")
    return files[0]


def read_json_object(file: Path) -> Mapping[str, Any]:
    """A JSON object; empty when there is none. A pipe is not even opened: nobody may ever write into it."""
    try:
        if not file.is_file():
            return {}
        value = parse_json(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def load_plain(plain: PlainWeights) -> Any:
    """A ``SmallResNet`` with these weights; numbers of classes, channels and widths are read off them.

    Raises:
        ModelError: they are not the weights of this architecture.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from palimpsest.models.resnet import SmallResNet, resnet_config

    where = f"model {plain.file} as {plain.architecture}"
    try:
        tensors = load_file(plain.file)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{where}: cannot be read: {error}") from error
    stages = range(1, len(ARCHITECTURES[plain.architecture][0]) + 1)
    asked = ("conv1.weight", "linear.weight", *(f"layer{n}.0.conv1.weight" for n in stages))
    missing = [name for name in asked if name not in tensors]
    if missing:
        raise ModelError(f"{where}: no tensor {missing[0]}; the first ones are {', '.join(sorted(tensors)[:3])}")
    mean, std = (numbers(plain.config[key], key, where) for key in ("normalize_mean", "normalize_std"))
    if not len(mean) == len(std) == tensors["conv1.weight"].shape[1]:
        raise ModelError(f"{where}: takes {tensors['conv1.weight'].shape[1]} channels; normalize_mean has {len(mean)}")
    config = resnet_config(
        plain.architecture,
        len(tensors["linear.weight"]),
        widths=tuple(len(tensors[name]) for name in asked[2:]),
        image_size=int(plain.image_size),
        image_mean=mean,
        image_std=std,
    )
    model = SmallResNet(config)
    _lay_over(model, tensors, where)
    model.name_or_path = model.config._name_or_path = f"{plain.architecture}@{plain.file}"
    return model


def _lay_over(model: Any, tensors: Mapping[str, Any], where: str) -> None:
    for problem, names in _unlike(model.state_dict(), tensors).items():
        if names:
            raise ModelError(f"{where}: {len(names)} tensors are {problem}, e.g. {names[0]}")
    model.load_state_dict(tensors, strict=False)


def _unlike(own: Mapping[str, Any], tensors: Mapping[str, Any]) -> dict[str, list[str]]:
    """What keeps tensors from being laid over a model's own -> their names."""
    # Older state dicts lack these counters, which nothing reads while momentum is a number.
    missing = [n for n in own if n not in tensors and not n.endswith("num_batches_tracked")]
    strange = [n for n in tensors if n not in own]
    other = [n for n in own if n in tensors and tensors[n].shape != own[n].shape]
    return {"missing": missing, "not part of it": strange, "of another shape": other}


def numbers(value: object, name: str, where: str) -> tuple[float, ...]:
    """A mean or standard deviation per channel.

    Raises:
        ModelError: it is something else.
    """
    if not isinstance(value, list | tuple) or not value or not all(isinstance(v, int | float) for v in value):
        raise ModelError(f"{where}: {name} is {value!r}; accepted: one number per channel")
    return tuple(map(float, value))
