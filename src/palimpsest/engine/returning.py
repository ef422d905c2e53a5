"""Rows that were forgotten and come back, and what the record of a run keeps of its rows. No torch."""

from __future__ import annotations

from collections.abc import Sequence

from palimpsest import derived, methods
from palimpsest.companions.learned import (
    LearnedRecord,
    check_learned,
    come_back,
    learned_after,
    read_record,
    unread_record,
)
from palimpsest.engine.inputs import Examples
from palimpsest.engine.plan import Plan
from palimpsest.errors import DataError
from palimpsest.in_words import so_many
from palimpsest.records import Example


def check_forget(plan: Plan, forget: Sequence[Example]) -> None:
    """Refuse to forget what the model never learned, but for a method that only looks at the rows it is given.

    Raises:
        DataError: as ``check_learned``.
    """
    if forget and not methods.card(plan.method).looks_only:
        check_learned(forget, plan.model, again=plan.allow_forgotten)


def check_returning(plan: Plan, examples: Examples) -> None:
    """Refuse rows that the model was made to forget, in whatever set they stand, unless the plan lets them in.

    Raises:
        DataError: how many of which sets, and the first.
    """
    if not plan.allow_forgotten:
        what = "leave them out, or let them in with --allow-forgotten, which is recorded"
        refuse_forgotten(examples, (plan.model, plan.base), what)


def refuse_forgotten(examples: Examples, sources: Sequence[str | None], what: str) -> None:
    """Refuse rows that one of some models was made to forget, in whatever set but the forget set.

    Args:
        examples: sets of rows.
        sources: the models; the error names the first that is one.
        what: can be done about it.

    Raises:
        DataError: how many of which sets, and the first.
    """
    found = come_back(examples, sources)
    if not found:
        return
    first = next(iter(found.values()))[0]
    raise DataError(
        f"{_counted(found)} {'was' if sum(map(len, found.values())) == 1 else 'were'} forgotten by "
        f"{next(filter(None, sources))} or before it (first: {first.name}): of that id, or saying the same; {what}"
    )


def record_notes(plan: Plan, examples: Examples) -> list[str]:
    """What a reader should know of the records that the run began with."""
    found = come_back(examples, (plan.model, plan.base)) if plan.allow_forgotten else {}
    notes = [f"Let in by --allow-forgotten although forgotten before: {_counted(found)}."] if found else []
    unread = unread_record(plan.model)
    return notes if unread is None else [*notes, f"{unread}."]


def _counted(found: Examples) -> str:
    return ", ".join(f"{so_many(len(rows), 'row')} of {name}" for name, rows in found.items())


def trained_on(plan: Plan) -> tuple[str, ...]:
    """The given sets, but for the forget set, that steps of a run are drawn from, or may be.

    >>> from palimpsest.engine.plan import make_plan
    >>> fields = {"kind": "unlearn", "method": "grad_diff", "model": "m", "files": {"forget": "f", "retain": "r"}}
    >>> trained_on(make_plan(fields, {"control": {"kind": "none"}}))
    ('retain',)
    """
    card = methods.card(plan.method)
    drawn = {*derived.to_give(card.needs), *(name for group in card.one_of for name in group), *card.uses}
    if plan.control.kind == "auto" or plan.repair.steps:
        drawn |= {"retain", "replay"}  # what keeps the rest rehearses them
    return tuple(name for name in ("learn", "retain", "replay") if name in drawn and name in plan.files)


def record_of(plan: Plan, examples: Examples) -> LearnedRecord | None:
    """What the model of a run has learned and forgotten, once the run has ended."""
    from_base = methods.card(plan.method).starts_from == "base" and plan.base is not None
    start = plan.base if from_base and plan.base is not None else plan.model
    drawn = {*trained_on(plan), "learn", *(("retain",) if from_base else ())}
    if methods.card(plan.method).looks_only:
        drawn, examples = set(), _only_looked_at(examples, start)
    return learned_after(start, examples, drawn, model=plan.model, from_base=from_base)


def _only_looked_at(examples: Examples, start: str) -> Examples:
    """The sets, without rows to forget whose ids the model learned with another content: those are other rows."""
    record = read_record(start)
    others = [] if record is None else [e for e in examples.get("forget", []) if record.has_learned_otherwise(e)]
    gone = {example.id for example in others}
    return {**examples, "forget": [e for e in examples.get("forget", []) if e.id not in gone]}
