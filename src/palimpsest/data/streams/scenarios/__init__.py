"""Scenarios, one rule per file; this folder is the registry.

A file of this folder (or of any folder added to ``__path__``) that sets ``SCENARIO`` is a scenario under the file's
name, with hyphens: ``task_aware.py`` is ``task-aware``. Builders are pure functions of metadata (``tasks.py``), options
and a seed. Listing the names imports none of them, and none imports torch.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from palimpsest.errors import PlanError, unknown

if TYPE_CHECKING:
    from palimpsest.data.streams.scenario import Scenario

__all__ = ["load", "names", "options"]


def names() -> tuple[str, ...]:
    """Names of all scenarios, sorted; none is imported.

    >>> "task-aware" in names()
    True
    """
    return tuple(sorted(info.name.replace("_", "-") for info in pkgutil.iter_modules(__path__)))


def load(name: str) -> Scenario[Any]:
    """The scenario of a name.

    Raises:
        PlanError: there is none, and which is closest; or its file cannot be imported, or sets no SCENARIO.
    """
    if name not in names():
        raise PlanError(unknown("scenario", name, names()))
    from palimpsest.data.streams.scenario import Scenario

    file = name.replace("-", "_")
    try:
        found = getattr(import_module(f"{__name__}.{file}"), "SCENARIO", None)
    except (ImportError, SyntaxError, NameError) as error:
        raise PlanError(f"scenario file {file}.py cannot be imported: {error}") from error
    if not isinstance(found, Scenario):
        raise PlanError(f"scenario file {file}.py sets no SCENARIO; end it with SCENARIO = Scenario(...)")
    return found


def options(chosen: str, given: Mapping[str, Any], *, beside: Iterable[str] = ()) -> dict[str, Any]:
    """The options of all scenarios, given or by default: what a bench records, whichever it chooses.

    A name that several scenarios have belongs to the chosen one, else to the first of them.

    Args:
        chosen: a scenario, or any other word.
        given: option -> value.
        beside: further names that are accepted where these are given, for the message.

    Raises:
        ValueError: no scenario has such an option.
        ValidationError: values that are not accepted, all of them.
    """
    from pydantic import ValidationError

    schemas = [load(name).Config for name in sorted(names(), key=lambda name: name != chosen)]
    known = [name for schema in schemas for name in schema.model_fields]
    if strangers := [name for name in given if name not in known]:
        raise ValueError(unknown("option", strangers[0], {*known, *beside}))
    found: dict[str, Any] = {}
    problems: list[Any] = []
    for schema in schemas:
        own = {name: given[name] for name in schema.model_fields if name in given and name not in found}
        try:
            found = {**schema.model_validate(own).model_dump(), **found}
        except ValidationError as error:
            problems += [{key: value for key, value in each.items() if key in _PROBLEM} for each in error.errors()]
    if problems:
        raise ValidationError.from_exception_data("stream", problems)
    return found


_PROBLEM = ("type", "loc", "input", "ctx")
