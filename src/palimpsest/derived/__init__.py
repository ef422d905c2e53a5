"""Sets that a run makes itself, from other sets or from what the model says; this folder is the registry.

A file here that sets ``DERIVED`` at its top level is a set under its file name: a method that names it among its
``needs`` is given it; the other files are what the sets share. Nothing here imports torch before a set is made: listing
the names reads the files and imports none of them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palimpsest.errors import PlanError, unknown
from palimpsest.method_card import KIND_WORDS
from palimpsest.method_file import files_that_set

if TYPE_CHECKING:
    from pydantic import BaseModel

    from palimpsest.derived.made import Derived
    from palimpsest.models.families.family import Family


def names() -> tuple[str, ...]:
    """Names of all derived sets, sorted.

    >>> "analogous" in names()
    True
    """
    return tuple(sorted(_files()))


def _files() -> dict[str, Path]:
    """Name of each derived set -> its file."""
    return {file.stem: file for file in files_that_set("DERIVED", __path__)}


def load(name: str) -> Derived:
    """The derived set of a name.

    Raises:
        PlanError: no such set.
    """
    if name not in names():
        raise PlanError(unknown("derived set", name, names()))
    derived: Derived = import_module(f"{__name__}.{name}").DERIVED
    return derived


def build_config(name: str, options: Mapping[str, Any]) -> BaseModel:
    """Validated options of a derived set.

    Raises:
        PlanError: no such set, an unknown option, or a value out of range.
    """
    from palimpsest.method_card import configured

    return configured(f"derived.{name}", load(name).Config, options)


def of_needs(needs: Iterable[str]) -> tuple[str, ...]:
    """Those of some sets that a run makes itself.

    >>> of_needs(("forget", "analogous"))
    ('analogous',)
    """
    made = names()
    return tuple(name for name in needs if name in made)


def files_of(needs: Iterable[str]) -> tuple[Path, ...]:
    """The files of those of some sets that a run makes itself.

    >>> [file.name for file in files_of(("forget", "analogous"))]
    ['analogous.py']
    """
    made = _files()
    return tuple(made[name] for name in needs if name in made)


def to_give(needs: Iterable[str]) -> tuple[str, ...]:
    """The sets that a user must give for a method that needs these: of a derived one, those that it is made of.

    >>> to_give(("forget", "analogous"))
    ('forget', 'retain')
    """
    made = names()
    sources = [load(name).sources if name in made else (name,) for name in needs]
    return tuple(dict.fromkeys(source for group in sources for source in group))


def modalities_of(needs: Iterable[str]) -> tuple[str, ...]:
    """Kinds of models that all of these sets can be made for.

    >>> modalities_of(("forget", "retain")), modalities_of(("forget", "analogous"))
    (('text', 'labels', 'image'), ('text',))
    """
    wanted = [load(name).modalities for name in of_needs(needs)]
    return tuple(kind for kind in KIND_WORDS if all(kind in able for able in wanted))


def stand_in(instead: Mapping[str, str], given: Collection[str], family: Family) -> tuple[str, ...]:
    """The sets that a run makes in the place of some that were not given.

    Args:
        instead: as a method has it.
        given: names of sets.
        family: of the model; what cannot be made for it is left out.
    """
    missing = (made for wanted, made in instead.items() if wanted not in given)
    return tuple(name for name in missing if can_be_made_for(load(name), family))


def can_be_made_for(made: Derived, family: Family) -> bool:
    """Can a set be made for a family of models?"""
    if made.speaks and not family.says:
        return False
    return family.takes in made.modalities and (family.reads_prefixes or not made.reads_prefixes)
