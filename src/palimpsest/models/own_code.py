"""Folders are data: what of one asks for code to be run, or would have to be unpickled, is refused unloaded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from palimpsest.errors import ModelError
from palimpsest.printed import short
from palimpsest.untrusted import parse_json, reason_of

CONFIGS = (
    "config.json",
    "adapter_config.json",
    "tokenizer_config.json",
    "generation_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "image_processor_config.json",
    "video_preprocessor_config.json",
)
"""Files of a folder that transformers and PEFT take classes from."""
TEXTS = frozenset({".json", ".jinja", ".model"})
"""Endings of files that are read wherever they are."""
_VOCABULARIES = frozenset({"vocab.txt", "merges.txt"})
LARGEST_CONFIG = 100_000_000  # bytes; a chat template and a few thousand class names are far below
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
_ADAPTER = "adapter_model.safetensors"


def check_data_only(folder: Path) -> None:
    """Refuse a folder whose configuration cannot be read or asks for code of its own.

    Raises:
        ModelError: names the file.
    """
    _check_plain(folder)
    for name in CONFIGS:
        config = config_in(folder / name)
        if config is not None:
            refuse_code(config, folder, name)


def _check_plain(folder: Path) -> None:
    """Refuse a folder, a pipe or a link to nothing where a file belongs: loaders would pass it over without a word."""
    for path in sorted(folder.iterdir()):
        if (path.suffix in TEXTS or path.name in _VOCABULARIES) and not path.is_file():
            raise ModelError(f"model {folder}: {path.name} is no file; give a folder written by save_pretrained")


def config_in(file: Path) -> Mapping[str, Any] | None:
    """The JSON object in a file; None where there is no such file.

    Raises:
        ModelError: something of that name is there, and is none.
    """
    where = f"model {file.parent}: {file.name}"
    if not file.is_symlink() and not file.exists():
        return None
    if not file.is_file():  # a folder, a broken link, or a pipe, which nobody may ever write into
        raise ModelError(f"{where} is no file; give a folder written by save_pretrained")
    try:
        if file.stat().st_size > LARGEST_CONFIG:
            raise ModelError(f"{where} has more than {LARGEST_CONFIG} bytes; give a folder written by save_pretrained")
        value = parse_json(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{where} is not JSON ({reason_of(error)})") from None
    if not isinstance(value, dict):
        raise ModelError(f"{where} is a JSON {type(value).__name__} and names no model_type; accepted: an object")
    return value


def refuse_code(config: Mapping[str, Any], source: str | Path, name: str = "config.json") -> None:
    """Refuse a configuration that names classes of its own folder or of any module.

    Raises:
        ModelError: it does.
    """
    asked = next((key for key in ("auto_map", "megatron_core") if _holds(config, key)), None)
    if asked is None or (asked == "megatron_core" and not config.get("megatron_config")):
        return
    known = config.get("model_type")
    hint = f" if its model_type, {short(known)}, is one that transformers has code for" if known else ""
    raise ModelError(
        f"model {source}: {name} asks for code of its own ({asked}), which is never run from a folder; take {asked} "
        f"out of the file{hint}, or give another model"
    )


def _holds(value: Any, key: str) -> bool:
    """Is a key somewhere in a value that JSON gave, with anything behind it?"""
    if isinstance(value, Mapping):
        return bool(value.get(key)) or any(_holds(inner, key) for inner in value.values())
    return isinstance(value, list) and any(_holds(inner, key) for inner in value)


def check_weights_are_safe(folder: Path, *, adapter: bool) -> None:
    """Refuse a folder whose weights are no safetensors files.

    Args:
        folder: of a model.
        adapter: of a PEFT adapter, whose weights are in a file of their own.

    Raises:
        ModelError: it has none; says which pickles there are instead.
    """
    found = [folder / _ADAPTER] if adapter else list(folder.glob("*.safetensors"))
    if any(file.is_file() for file in found):
        return
    pickles = sorted(p.name for pattern in _PICKLES for p in folder.glob(pattern))
    instead = f" (found {', '.join(pickles[:4])}, which is never unpickled)" if pickles else ""
    what = f"no {_ADAPTER}" if adapter else "no .safetensors weights"
    raise ModelError(f"model {folder}: {what}{instead}; save it with save_pretrained")
