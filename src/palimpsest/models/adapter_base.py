"""Where the base of an adapter is: a folder, found from wherever the command runs, or a pinned name on the Hub.

PEFT writes down the name that the base was loaded by: a path relative to a working directory that nobody knows any
more, or a name on the Hub. A relative name is looked for beside the adapter, then further and further out, then in the
working directory; only what is nowhere is taken for a name on the Hub, and only with a commit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from os.path import expanduser
from pathlib import Path
from typing import Any, NamedTuple

from palimpsest.errors import ModelError
from palimpsest.models.plain import plain_weights, read_json_object
from palimpsest.printed import short
from palimpsest.untrusted import refusing

ADAPTER = "adapter_config.json"
MOST_ADAPTERS = 16  # on each other


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
    return read_json_object(folder / ADAPTER)


def base_of(folder: Path, revision: str | None = None) -> AdapterBase:
    """The base of an adapter.

    Args:
        folder: of the adapter.
        revision: the commit of a base on the Hub whose adapter names none.

    Raises:
        ModelError: it names none, none that can be found, or lies on itself.
    """
    check_bases(folder)
    with _refusing(folder):
        return _base(folder, adapter_in(folder), revision)


def check_bases(folder: Path) -> None:
    """Refuse an adapter that lies, perhaps over others, on itself.

    Raises:
        ModelError: it does, or over more others than anybody lays on each other.
    """
    seen: list[Path] = []
    place: Path | None = folder
    with _refusing(folder):
        while place is not None and (adapter := adapter_in(place)):
            seen.append(place.resolve())
            place = _folder_of_base(place, adapter)
            if place is not None and (place.resolve() in seen or len(seen) > MOST_ADAPTERS):
                raise ModelError(
                    f"model {folder}: its adapter lies on {short(str(place))}, and so in the end on itself: a circle"
                )


def _refusing(folder: Path) -> AbstractContextManager[None]:
    return refusing(lambda reason: ModelError(f"model {folder}: the base of its adapter cannot be found ({reason})"))


def _name_of_base(adapter: Mapping[str, Any]) -> str | None:
    name = adapter.get("base_model_name_or_path")
    return name if isinstance(name, str) and name.strip() else None


def _is_whole(name: str) -> bool:
    """Is it one that means the same from everywhere?"""
    return Path(name).is_absolute() or name.startswith("~") or plain_weights(name) is not None


def _folder_of_base(folder: Path, adapter: Mapping[str, Any]) -> Path | None:
    """Where the base of an adapter is; None where it is in no folder that can be found."""
    name = _name_of_base(adapter)
    if name is None:
        return None
    whole = Path(expanduser(name))
    if whole.is_absolute():
        return whole if whole.is_dir() else None
    return next((place for place in _places(folder, name) if _is_model(place)), None)


def _base(folder: Path, adapter: Mapping[str, Any], revision: str | None) -> AdapterBase:
    name = _name_of_base(adapter)
    if name is None:
        raise ModelError(
            f"model {folder}: its {ADAPTER} names no base; write the base's folder into it as base_model_name_or_path"
        )
    pinned = adapter.get("revision") or revision
    if _is_whole(name):
        return AdapterBase(name, pinned)
    found = _folder_of_base(folder, adapter)
    if found is not None or (pinned and name.count("/") < 2 and not name.startswith(".")):
        return AdapterBase(str(found or name), pinned)
    raise ModelError(
        f"model {folder}: the base {short(name)} of its adapter is in no folder from there outwards and not in the "
        f"working directory; write the base's whole path into {ADAPTER} as base_model_name_or_path, or, where it is a "
        "name on the Hub, give its commit with --revision"
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
