"""One record of the delta log: a file with one step's pruned changes, and the marks of whose step it was."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from palimpsest.companions.delta_format import KeptTensor, KeptTensors
from palimpsest.durable import check_held_still
from palimpsest.models.sealed import is_sound, with_digest
from palimpsest.records import digest
from palimpsest.untrusted import parse_json

_SUFFIX = ".safetensors"


class Stamp(NamedTuple):
    """What a record says of itself.

    Attributes:
        who: marks of the ids of its step.
        layout: name of the layout that it was packed by.
        sha256: of its content.
    """

    who: frozenset[str]
    layout: str
    sha256: str


def write_delta(path: Path, tensors: Mapping[str, Tensor], who: Collection[str], layout: str) -> None:
    """Write a record, whole and for its owner alone; it is on the disk once it and its folder were flushed."""
    check_held_still(path)
    kept = {name: tensor.contiguous() for name, tensor in tensors.items()}
    said = {"who": json.dumps(sorted(who)), "layout": layout}
    temporary = path.with_suffix(".tmp")
    save_file(kept, temporary, metadata=with_digest(kept, said))
    temporary.chmod(0o600)
    temporary.replace(path)


def delta_stamp(path: Path) -> Stamp | None:
    """What a record says of itself; None where it cannot be read."""
    try:
        with safe_open(path, framework="pt") as file:
            said = file.metadata()
        return Stamp(frozenset(map(str, parse_json(said["who"]))), str(said["layout"]), str(said["sha256"]))
    except (SafetensorError, OSError, ValueError, LookupError, TypeError):
        return None


def tensors_of(path: Path) -> dict[str, Tensor] | None:
    """What is in a record; None where it is not what was written."""
    if not is_sound(path):
        return None
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)


def record_name(number: int) -> str:
    """The file name of a record.

    >>> record_name(12)
    '00000012.safetensors'
    """
    return f"{number:08d}{_SUFFIX}"


def records_in(folder: Path) -> list[Path]:
    """The files of all records that lie in a folder, in their order."""
    return sorted(path for path in folder.glob(f"*{_SUFFIX}") if path.stem.isdigit())


def layout_name(layout: KeptTensors) -> str:
    """Names a layout by what it says."""
    return digest(layout_to_json(layout))[:12]


def layout_to_json(layout: KeptTensors) -> list[Any]:
    """JSON values of a layout."""
    return [[place.name, list(place.shape), place.share] for place in layout]


def layout_from(values: Any) -> tuple[KeptTensor, ...]:
    """Inverse of ``to_json``."""
    return tuple(KeptTensor(str(name), tuple(map(int, shape)), float(share)) for name, shape, share in values)
