"""The digest of a plan, by what was written down of it: the one that is written beside it may be another plan's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from palimpsest.records import digest

PLACES = frozenset({"files", "model", "after", "base", "oracle"})
"""Fields of a plan that say where something was read, which decides nothing."""
_WHEN_GIVEN = frozenset({"controls", "diversify", "head", "record", "restore", "rules"})
"""Fields that plans of earlier versions do not have: left out where empty, so that those keep their digests."""
_MADE_BY = ("palimpsest", "source")
_NO_OPTIONS = frozenset({"digest", "level", *_MADE_BY})  # what a record has beside the plan's fields


def plan_digest(values: Mapping[str, Any], made_by: Mapping[str, str]) -> str:
    """SHA-256 over all of a plan but the places its inputs were read from, and what it might have and has not.

    Args:
        values: its fields as JSON.
        made_by: as ``Plan.made_by`` gives it.
    """
    chosen = {
        name: value for name, value in values.items() if name not in PLACES and (value or name not in _WHEN_GIVEN)
    }
    if isinstance(request := chosen.get("request"), Mapping):
        chosen["request"] = {name: value for name, value in request.items() if name != "data"}
    return digest({**chosen, **made_by})


def made_by(record: Mapping[str, Any]) -> dict[str, str] | None:
    """Version and code by which a plan was run, as its record says; None where it does not, as in 0.1.0."""
    found = {name: record[name] for name in _MADE_BY if isinstance(record.get(name), str)}
    return found if len(found) == len(_MADE_BY) else None


def recorded_digest(record: Mapping[str, Any]) -> str | None:
    """The digest that a record has by its content; None where it does not say by which code."""
    by = made_by(record)
    if by is None:
        return None
    return plan_digest({name: value for name, value in record.items() if name not in _NO_OPTIONS}, by)
