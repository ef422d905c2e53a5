"""The folder of a version with parts, looked at without torch.

    config.json                   {"model_type": "palimpsest", "format": 1, "base": "base", "parts": ["0000-lora", ...]}
    base/                         a plain folder, as save_pretrained writes it
    parts/0000-lora/part.json     kind, options, alpha, who made it
    parts/0000-lora/part.safetensors
    tokenizer.json ...            beside config.json, as in a plain folder

A transformers that does not know palimpsest refuses the model type: what it would load without the parts is another
model. In the base alone, and in no other file, lie the weights that plain readers know.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from palimpsest.errors import ModelError
from palimpsest.models.own_code import config_in
from palimpsest.models.plain import read_json_object
from palimpsest.printed import short

MODEL_TYPE = "palimpsest"
FORMAT = 1
BASE, PARTS = "base", "parts"
RECORD, TENSORS = "part.json", "part.safetensors"
MOST_PARTS = 100_000
_NAME = re.compile(r"\d{4,6}-[A-Za-z_][A-Za-z0-9_]*")


def bears_parts(folder: Path) -> bool:
    """Is this the folder of a version with parts?"""
    return read_json_object(folder / "config.json").get("model_type") == MODEL_TYPE


def name_of(number: int, kind: str) -> str:
    """Folder of a part.

    >>> name_of(3, "lora")
    '0003-lora'
    """
    return f"{number:04}-{kind}"


def base_in(folder: Path) -> Path:
    """The plain folder in a version with parts.

    Raises:
        ModelError: it names none, or one that is not in it.
    """
    config = _config(folder)
    base = config.get("base")
    if base != BASE:
        raise ModelError(
            f"model {folder}: config.json has base = {short(base)}; accepted: {BASE!r}, a folder beside it"
        )
    return _inside(folder, folder / BASE)


def parts_in(folder: Path) -> tuple[Path, ...]:
    """The folders of its parts, oldest first.

    Raises:
        ModelError: the list is none, or what it names is not there, or is there and not named.
    """
    listed = _listed(folder)
    place = _inside(folder, folder / PARTS)
    there = {path.name for path in place.iterdir() if not path.name.startswith(".")}
    for name in sorted(there ^ set(listed)):
        what = "is not there" if name in listed else "is not in config.json's list, so it would be left out"
        raise ModelError(f"model {folder}: part {name} {what}; copy the whole folder again")
    return tuple(_inside(folder, place / name) for name in listed)


def _listed(folder: Path) -> list[str]:
    """Names of its parts, as its config lists them."""
    listed = _config(folder).get("parts")
    if not isinstance(listed, list) or not listed or len(listed) > MOST_PARTS:
        raise ModelError(f"model {folder}: config.json lists no parts; accepted: names of folders in {PARTS}/")
    odd = next((name for name in listed if not isinstance(name, str) or not _NAME.fullmatch(name)), None)
    if odd is not None:
        raise ModelError(f"model {folder}: config.json lists a part {short(odd)}; accepted: such as 0000-lora")
    if sorted(set(listed)) != listed:
        raise ModelError(f"model {folder}: config.json lists its parts twice or out of order; they act oldest first")
    return listed


def record_in(part: Path) -> Mapping[str, Any]:
    """What a part's folder says of it: kind, config, alpha, made_by.

    Raises:
        ModelError: it cannot be read, or is of another format.
    """
    record = config_in(part / RECORD)
    if record is None or not (part / TENSORS).is_file():
        raise ModelError(f"model {part.parents[1]}: part {part.name} lacks {RECORD if record is None else TENSORS}")
    _check_format(record, part / RECORD)
    alpha = record.get("alpha", 1.0)
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not abs(alpha) < float("inf"):
        raise ModelError(f"{part / RECORD}: alpha is {short(alpha)}; accepted: a number, 1 as learned, 0 off")
    if record.get("kind") != part.name.partition("-")[2] or not isinstance(record.get("config"), dict):
        raise ModelError(
            f"{part / RECORD}: kind is {short(record.get('kind'))}; accepted: that of its folder, and a config"
        )
    return record


def check_parts(folder: Path) -> Path:
    """Refuse a version with parts that is not whole, before anything heavy is imported.

    Returns:
        Its base.

    Raises:
        ModelError: something of the layout is not there, leaves the folder, or is of a newer version.
    """
    base = base_in(folder)
    for part in parts_in(folder):
        record_in(part)
    if bears_parts(base) or (base / "adapter_config.json").exists():
        raise ModelError(f"model {folder}: its base is no plain model; accepted: as save_pretrained writes it")
    return base


def files_in(folder: Path) -> dict[str, Path]:
    """The files of the parts, by their name in the folder; links to nothing and strangers are not among them."""
    found = [path for name in (RECORD, TENSORS) for path in (folder / PARTS).glob(f"*/{name}")]
    return {path.relative_to(folder).as_posix(): path for path in sorted(found)}


def part_kinds_in(folder: Path) -> tuple[str, ...]:
    """Kinds of the parts in a folder, as its config lists them; nothing for a plain model."""
    listed = read_json_object(folder / "config.json").get("parts") if bears_parts(folder) else None
    names = listed if isinstance(listed, list) else []
    return tuple(sorted({str(name).partition("-")[2] for name in names}))


def _config(folder: Path) -> Mapping[str, Any]:
    config = config_in(folder / "config.json") or {}
    _check_format(config, folder / "config.json")
    return config


def _check_format(values: Mapping[str, Any], file: Path) -> None:
    found = values.get("format")
    if isinstance(found, int) and found > FORMAT:
        raise ModelError(f"{file} is of format {found}, written by a newer palimpsest; this one reads up to {FORMAT}")
    if found != FORMAT:
        raise ModelError(f"{file} has format = {short(found)}; accepted: {FORMAT}")


def _inside(folder: Path, place: Path) -> Path:
    """A folder that lies in another, with all that is in it."""
    if not place.is_dir():
        raise ModelError(f"model {folder}: {place.relative_to(folder)}/ is not there; copy the whole folder again")
    root = folder.resolve()
    for path in (place, *sorted(place.iterdir())):
        if path.is_symlink() and not path.resolve().is_relative_to(root):
            raise ModelError(
                f"model {folder}: {path.relative_to(folder)} leads out of the folder; copy it with what links point to"
            )
    return place
