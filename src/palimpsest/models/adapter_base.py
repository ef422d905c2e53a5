"""Where the base of an adapter is: a folder, found from wherever the command runs, or a pinned name on the Hub.

PEFT writes down the name that the base was loaded by: a path relative to a working directory that nobody knows any
more, or a name on the Hub. A relative name is looked for beside the adapter, then further and further out, then in the
working directory; only what is nowhere is taken for a name on the Hub, and only with a commit.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from palimpsest.errors import ModelError
from palimpsest.models.plain import plain_weights

ADAPTER = "adapter_config.json"


class AdapterBase(NamedTuple):
    """What an adapter is laid on.

    Attributes:
        source: a folder, plain weights, or a Hub name.
        revision: its commit, of a Hub name.
    """

    source: str
    revision: str | None


def adapter_in(folder: Path) -> Mapping[str, Any]:
    """What an adapter folder says of itself; empty where it is none."""
    try:
        value = json.loads((folder / ADAPTER).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def base_of(folder: Path, revision: str | None = None) -> AdapterBase:
    """The base of an adapter.

    Args:
        folder: of the adapter.
        revision: the commit of a base on the Hub whose adapter names none.

    Raises:
        ModelError: it names none, none that can be found, or lies on itself.
    """
    seen: list[Path] = []
    first, place = None, folder
    while True:
        if place.resolve() in seen:
            raise ModelError(f"model {folder}: the base of its adapter is an adapter that lies on it again: a circle")
        seen.append(place.resolve())
        found = _base(place, adapter_in(place), revision)
        first = first or found
        if not (Path(found.source).is_dir() and adapter_in(Path(found.source))):
            return first
        place = Path(found.source)


def _base(folder: Path, adapter: Mapping[str, Any], revision: str | None) -> AdapterBase:
    name = _name(folder, adapter)
    pinned = adapter.get("revision") or revision
    if Path(name).is_absolute() or plain_weights(name) is not None:
        return AdapterBase(name, pinned)
    found = next((place for place in _places(folder, name) if _is_model(place)), None)
    if found is not None:
        return AdapterBase(str(found), pinned)
    if pinned and name.count("/") < 2 and not name.startswith("."):
        return AdapterBase(name, pinned)
    raise ModelError(
        f"model {folder}: the base {name!r} of its adapter is in no folder from there outwards and not in the working "
        f"directory; write the base's whole path into {ADAPTER} as base_model_name_or_path, or, where it is a name on "
        "the Hub, give its commit with --revision"
    )


def _name(folder: Path, adapter: Mapping[str, Any]) -> str:
    """What an adapter calls its base."""
    name = adapter.get("base_model_name_or_path")
    if not isinstance(name, str) or not name.strip():
        raise ModelError(
            f"model {folder}: its {ADAPTER} names no base; write the base's folder into it as base_model_name_or_path"
        )
    return name


def _places(folder: Path, name: str) -> Iterator[Path]:
    inner = folder.resolve()
    for outer in (inner, *inner.parents, Path.cwd()):
        place = outer / name
        if place.resolve() != inner:
            yield place


def _is_model(place: Path) -> bool:
    return (place / "config.json").is_file() or (place / ADAPTER).is_file()
