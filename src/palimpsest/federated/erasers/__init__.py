"""Ways to take a client out of a federation; this folder is the registry.

A file here that sets ``ERASER`` at its top level is an eraser under its file's name. Listing the names reads the files
and imports none of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from palimpsest.errors import PlanError, unknown
from palimpsest.method_card import configured
from palimpsest.method_file import files_that_set, read_options, read_values

if TYPE_CHECKING:
    from pydantic import BaseModel

    from palimpsest.federated.procedure import Eraser


class EraserCard(NamedTuple):
    """What the file of an eraser says of it.

    Attributes:
        name: of the eraser.
        use_when: for who chooses.
        guarantee: what may be relied on after it.
        exact: does it give what the same procedure gives without the client?
        learns_apart: the federation must have learned for it.
        any_rule: it can erase whatever the answers were combined by.
        needs: what it cannot do without; ``procedure.Eraser``.
    """

    name: str
    use_when: str = ""
    guarantee: str = ""
    exact: bool = False
    learns_apart: bool = False
    any_rule: bool = False
    needs: tuple[str, ...] = ("rounds",)


def names() -> tuple[str, ...]:
    """All erasers, sorted."""
    return tuple(sorted(file.stem for file in files_that_set("ERASER", __path__)))


def load(name: str, options: Mapping[str, Any] | None = None) -> Eraser:
    """One eraser.

    Args:
        name: of its file.
        options: option -> value; what is left out takes its default.

    Raises:
        PlanError: no such one, or an unknown option (names the closest), or a value out of range.
    """
    kind: type[Eraser] = import_module(f"{__name__}.{known_eraser(name)}").ERASER
    return kind() if options is None else kind(configured(name, kind.Config, options))


def options_of_eraser(name: str) -> type[BaseModel]:
    """The schema of an eraser's options, read in its file where that can be done, so that torch is not imported.

    Raises:
        PlanError: there is none of that name; names the closest.
    """
    read = read_options(eraser_file(known_eraser(name)), "ERASER")
    return type(load(name)).Config if read is None else read


def checked_options(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """All options of an eraser, with defaults; JSON values.

    Raises:
        PlanError: an unknown option (names the closest), or a value out of range.
    """
    return configured(name, options_of_eraser(name), options).model_dump(mode="json")


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


def eraser_cards() -> tuple[EraserCard, ...]:
    """What all erasers say of themselves, read in their files without running them."""
    return tuple(EraserCard(name, **_said(name)) for name in names())


def _said(name: str) -> dict[str, Any]:
    """Values of the attributes of an eraser's class, read in its file where that can be done."""
    found = read_values(eraser_file(name), "ERASER", EraserCard._fields[1:])
    return {key: getattr(load(name), key) for key in EraserCard._fields[1:]} if found is None else found[1]
