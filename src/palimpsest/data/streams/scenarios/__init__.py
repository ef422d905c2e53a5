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
    from pydantic_core import ErrorDetails, InitErrorDetails

    from palimpsest.data.streams.scenario import Scenario, ScenarioConfig

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
    schemas = [load(name).Config for name in sorted(names(), key=lambda name: name != chosen)]
    known = [name for schema in schemas for name in schema.model_fields]
    if strangers := [name for name in given if name not in known]:
        raise ValueError(unknown("option", strangers[0], {*known, *beside}))
    return _checked(schemas, given)


def _checked(schemas: Iterable[type[ScenarioConfig]], given: Mapping[str, Any]) -> dict[str, Any]:
    """All options; of a name that several schemas have, the first one's."""
    from pydantic import ValidationError

    found: dict[str, Any] = {}
    problems: list[InitErrorDetails] = []
    for schema in schemas:
        own = {name: given[name] for name in schema.model_fields.keys() & given.keys() - found.keys()}
        try:
            found = {**schema.model_validate(own).model_dump(), **found}
        except ValidationError as error:
            problems += map(_as_raised, error.errors())
    if problems:
        raise ValidationError.from_exception_data("stream", problems)
    return found


def _as_raised(problem: ErrorDetails) -> InitErrorDetails:
    """What pydantic says of a problem, in the form in which it can be raised anew."""
    from pydantic_core import PydanticCustomError

    said = PydanticCustomError(problem["type"], problem["msg"])
    return {"type": said, "loc": problem["loc"], "input": problem["input"]}
