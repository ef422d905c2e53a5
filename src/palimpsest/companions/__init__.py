"""What is kept beside a model so that it can be deleted from later; this folder is the registry.

A file here that sets ``COMPANION`` at its top level is a companion under the ``kind`` that its class names. Listing the
kinds, and finding those of a folder, reads the files and imports none of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from palimpsest.errors import PlanError, unknown

if TYPE_CHECKING:
    from palimpsest.companions.companion import Companion
    from palimpsest.companions.marks import MarkKey

COMPANIONS = "companion"  # folder in that of a version
_SAID = re.compile(r'^    (kind|within) = "([\w./]+)"$', re.MULTILINE)


class Filed(NamedTuple):
    """Where the code and the history of a kind lie.

    Attributes:
        module: file name of the code, without ``.py``.
        within: place of the history in the folder of a version.
    """

    module: str
    within: str


def names() -> tuple[str, ...]:
    """All kinds, sorted.

    >>> "learned" in names()
    True
    """
    return tuple(sorted(_files()))


def _files() -> dict[str, Filed]:
    """Each kind -> where it is filed."""
    found = {}
    for file in (file for folder in __path__ for file in sorted(Path(folder).glob("*.py"))):
        text = file.read_text(encoding="utf-8")
        said = dict(_SAID.findall(text))
        if "\nCOMPANION = " in text and "kind" in said:
            found[said["kind"]] = Filed(file.stem, said.get("within") or f"{COMPANIONS}/{said['kind']}")
    return found


def load(kind: str) -> type[Companion]:
    """The class of a kind.

    Raises:
        PlanError: no such kind; names the closest one.
    """
    found = _files()
    if kind not in found:
        raise PlanError(unknown("companion", kind, found))
    companion: type[Companion] = import_module(f"{__name__}.{found[kind].module}").COMPANION
    return companion


def companion_place(kind: str, version: Path) -> Path:
    """Where a kind lies in the folder of a version.

    >>> companion_place("learned", Path("after")).as_posix()
    'after/learned.json'
    """
    return version / _files()[kind].within


def kinds_in(version: Path) -> tuple[str, ...]:
    """Kinds of which something lies in the folder of a version, sorted."""
    return tuple(kind for kind, filed in sorted(_files().items()) if (version / filed.within).exists())


def opened(version: Path, key: MarkKey) -> Iterator[Companion]:
    """Every companion of a version, in the order of the kinds.

    Args:
        version: folder of a model.
        key: of the marks.

    Raises:
        ModelError: one is damaged, or was made with another key.
    """
    for kind in kinds_in(version):
        yield load(kind).open(companion_place(kind, version), key)
