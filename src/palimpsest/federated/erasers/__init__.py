"""Ways to take a client out of a federation; this folder is the registry.

A file here that sets ``ERASER`` at its top level is an eraser under its file's name. Listing the names reads the files
and imports none of them.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from palimpsest.errors import PlanError, unknown

if TYPE_CHECKING:
    from palimpsest.federated.procedure import Eraser


def names() -> tuple[str, ...]:
    """All erasers, sorted."""
    files = (file for folder in __path__ for file in Path(folder).glob("*.py"))
    return tuple(sorted(file.stem for file in files if "\nERASER = " in file.read_text(encoding="utf-8")))


def load(name: str) -> Eraser:
    """One eraser.

    Raises:
        PlanError: no such one; names the closest.
    """
    eraser: Eraser = import_module(f"{__name__}.{known_eraser(name)}").ERASER
    return eraser


def known_eraser(name: str) -> str:
    """The name of an eraser that there is; imports none.

    Raises:
        PlanError: there is none of that name; names the closest.
    """
    if name not in names():
        raise PlanError(unknown("eraser", name, names()))
    return name


def eraser_file(name: str) -> Path:
    """The file of an eraser."""
    return next(file for folder in __path__ for file in [Path(folder) / f"{name}.py"] if file.is_file())
