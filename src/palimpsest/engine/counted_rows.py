"""Rows that would leave the class statistics beside a model as they are, or empty: refused before anything is measured.

What ids tell is refused before anything is loaded; that rows say what others said, once they are encoded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from palimpsest import methods
from palimpsest.companions.companion import Companion
from palimpsest.data.read.classes import class_numbers
from palimpsest.data.read.new_classes import names_in_order
from palimpsest.engine.handing_on import companions_read, start_of
from palimpsest.engine.head_growth import head_after
from palimpsest.engine.inputs import Examples
from palimpsest.engine.plan import Plan
from palimpsest.errors import DataError, PlanError
from palimpsest.in_words import so_many
from palimpsest.models.parts.parts_folder import bears_parts, parts_in, record_in

_STATISTICS = "class_statistics"
_COUNTED = ("learn", "replay", "forget")


def check_counted(plan: Plan, examples: Examples) -> None:
    """Refuse to learn rows that are all counted, and to take off rows none of which is.

    A method whose weights move counts some of its rows alone, its exemplars; learning again is training again there.

    Args:
        plan: of the run.
        examples: its sets.

    Raises:
        DataError: how many rows, where they are counted or not, and what would be accepted.
    """
    card = methods.card(plan.method)
    there = companions_read(plan).get(_STATISTICS) if _STATISTICS in card.keeps else None
    if there is None:
        return
    if card.moves_all:
        _check_some_go(plan, examples, there)
        _check_none_lost(plan, examples, there)
    if "forget" not in examples and not card.moves_all and plan.method in _makers(start_of(plan)):
        _check_some_come(plan, examples, there)
    if "forget" in examples and not {"learn", "replay"} & examples.keys():
        _check_some_stay(plan, examples, there)


def check_counted_content(plan: Plan, sets: Mapping[str, Any]) -> None:
    """Refuse rows that were counted with another content, and to learn only what was counted under other ids.

    Args:
        plan: of the run.
        sets: encoded.

    Raises:
        DataError: the first row, and what would be accepted.
    """
    record = _record_beside(plan)
    if record is None:
        return
    shown = _shown(sets)
    known = [record.knows(*row) for rows in shown.values() for row in rows.items()]
    come = {**shown.get("learn", {}), **shown.get("replay", {})}
    if "forget" in sets or all(known) or plan.method not in _makers(start_of(plan)):
        return
    if all(map(record.has_content, come.values())):
        raise DataError(_said_already(plan, list(come)))


def _shown(sets: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Set -> id -> digest of what the model is shown of the row."""
    from palimpsest.models.class_features import content_digest_of

    there = [name for name in _COUNTED if name in sets]
    return {name: {i: content_digest_of(sets[name], i) for i in sets[name].ids} for name in there}


def _said_already(plan: Plan, ids: Sequence[str]) -> str:
    return (
        f"{_all(len(ids))} to learn, first {ids[0]!r}, {'says' if len(ids) == 1 else 'say'} what the class statistics "
        f"of {start_of(plan)} counted already under other ids, so that nothing is new; accepted: rows with another "
        "content"
    )


def _record_beside(plan: Plan) -> Any:
    """The class statistics beside the start of a run that goes on with them; None where there are none."""
    card = methods.card(plan.method)
    if _STATISTICS not in card.keeps or card.moves_all:
        return None
    there: Any = companions_read(plan).get(_STATISTICS)
    return None if there is None else there.record()


def _check_some_stay(plan: Plan, examples: Examples, there: Companion) -> None:
    gone = there.holds([row.id for row in examples["forget"]])
    if gone and len(gone) == there.held().examples:
        raise DataError(
            f"the {so_many(len(gone), 'row')} to delete are all that {start_of(plan)} counted of any class, so that no "
            "class would be left in its head; accepted: a request that leaves rows of one class, or the model from "
            "before it learned"
        )


def _check_some_come(plan: Plan, examples: Examples, there: Companion) -> None:
    ids = [row.id for name in ("learn", "replay") for row in examples.get(name, ())]
    if ids and len(there.holds(ids)) == len(set(ids)):
        raise DataError(
            f"{_all(len(ids))} to learn, first {ids[0]!r}, {'is' if len(ids) == 1 else 'are'} counted already in the "
            f"class statistics of {start_of(plan)}, so that nothing would change; accepted: rows under ids that were "
            "not learned yet"
        )


def _check_some_go(plan: Plan, examples: Examples, there: Companion) -> None:
    ids = [row.id for row in examples.get("forget", ())]
    if ids and not there.holds(ids):
        raise DataError(
            f"none of {so_many(len(ids), 'row')} to delete, first {ids[0]!r}, is an exemplar of {start_of(plan)}, so "
            f"that no mean of {plan.method} has them; accepted: rows of which some are, or a method that changes the "
            "backbone, which saw them: scrub, ug_clu, salun"
        )


def _check_none_lost(plan: Plan, examples: Examples, there: Any) -> None:
    """Of a method that trains the backbone and fits its head anew, from given rows alone."""
    head = head_after(plan)
    if "learn" not in examples or head is None or (plan.head is not None and plan.head.kind == "new"):
        return
    known = there.record().present_C.nonzero()[:, 0].tolist()
    given = class_numbers([row for name in ("learn", "replay") for row in examples.get(name, ())], *head)
    if lost := [number for number in known if number not in given]:
        raise PlanError(
            f"{plan.method}: {len(lost)} of {len(known)} known classes would be lost, first "
            f"{names_in_order(head)[lost[0]]!r}: the backbone moves, and no row is there to make their means anew; "
            "give rows of them as --replay"
        )


def _all(count: int) -> str:
    return "the only row" if count == 1 else f"all {count} rows"


def _makers(folder: Path) -> set[str]:
    """Methods that made the parts of a version."""
    made = [record_in(part).get("made_by") for part in parts_in(folder)] if bears_parts(folder) else []
    return {str(one.get("method")) for one in made if isinstance(one, dict)}
