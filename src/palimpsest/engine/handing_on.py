"""What a version inherits of the histories that lie beside the one it was made from, and what its run adds to them.

Copies, never links: a purge of the one must not reach the other's files half way. Done in the run's partial folder,
anew at every try, before the folder is whole; so there is no moment at which a finished version holds what its run
forgot.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from palimpsest import companions, methods, rules
from palimpsest.companions import COMPANIONS
from palimpsest.companions.companion import Change, Companion
from palimpsest.companions.marks import MarkKey, own_key
from palimpsest.companions.owner import check_owner, write_owner
from palimpsest.durable import check_held_still, flush_tree
from palimpsest.engine.plan import Plan
from palimpsest.errors import PlanError
from palimpsest.in_words import so_many
from palimpsest.models.parts.parts_folder import part_kinds_in
from palimpsest.models.sources import source_digest
from palimpsest.records import Example


def start_of(plan: Plan) -> Path:
    """The folder whose weights a run starts from; a Hub name is a folder that is not there."""
    from_base = methods.card(plan.method).starts_from == "base" and plan.base is not None
    return Path(plan.base if from_base and plan.base is not None else plan.model).expanduser()


def companions_read(plan: Plan) -> dict[str, Companion]:
    """The companions that a run's method reads, of the version that it starts from, and those it keeps if any.

    Raises:
        PlanError: one of them is not there.
        ModelError: one is damaged, or was made with another key.
    """
    start, found, card = start_of(plan), dict[str, Companion](), methods.card(plan.method)
    there = [kind for kind in card.keeps if kind not in card.reads and kind in companions.kinds_in(start)]
    for kind in (*card.reads, *there):
        key = own_key()
        if key is None or kind not in companions.kinds_in(start):
            raise PlanError(
                f"method {plan.method!r} takes back what {start} recorded when it learned, and there are no {kind} "
                f"beside it; learn with --record {kind}, or use another method"
            )
        found[kind] = companions.load(kind).open(companions.companion_place(kind, start), key)
    return found


def check_read(plan: Plan, forget: Sequence[Example] | None = None) -> None:
    """Refuse a run whose method reads a history that is not there, not whole, or does not know the rows.

    Args:
        plan: of the run.
        forget: the forget set, once it was read.

    Raises:
        UsageError: as ``companions_read``, ``Companion.check_whole`` and ``check_covers``; or the model lacks a part.
    """
    _check_part(plan)
    for companion in companions_read(plan).values():
        start = start_of(plan)
        model = source_digest(start)
        companion.check_whole(model, str(start))
        check_owner(companion.folder, model, str(start))
        if forget is not None and not methods.card(plan.method).moves_all:  # else some rows alone are in it
            companion.check_covers([example.id for example in forget], str(start))


def _check_part(plan: Plan) -> None:
    """Refuse a model that does not bear the part that the method works on."""
    card, start = methods.card(plan.method), start_of(plan)
    wanted = card.needs_part
    if wanted and wanted not in part_kinds_in(start):
        others = [methods.card(name) for name in methods.names()]
        able = [other.name for other in others if other.adds_parts and set(other.keeps) & set(card.keeps)]
        raise PlanError(
            f"method {plan.method!r} works on a {wanted}, and model {start} has none; accepted: a version that learned "
            f"with --method {' or '.join(able)}"
        )


def change_by(plan: Plan, forget: Iterable[str], *, steps: int, model: str) -> Change:
    """What a run did, for the histories that it hands on.

    Args:
        plan: of the run.
        forget: ids of its forget set.
        steps: optimizer steps that it took.
        model: digest of the version.
    """
    card = methods.card(plan.method)
    recorded = frozenset((*plan.record, *card.keeps))
    return Change(plan.method, model, steps, frozenset(forget), recorded, frozenset(card.reads))


def left_behind(plan: Plan) -> tuple[str, ...]:
    """What a run is about to leave behind of the histories beside its start, and how it would go on with them.

    Args:
        plan: of a run whose steps, if it takes any, will move the weights.
    """
    card, start, key = methods.card(plan.method), start_of(plan), own_key()
    if card.edits or key is None:
        return ()
    change = Change(plan.method, "", 1, recorded=frozenset((*plan.record, *card.keeps)), reads=frozenset(card.reads))
    stale = [c.kind for c in companions.opened(start, key) if c.handed_on and c.stale_after(change)]
    return tuple(
        f"the {kind} beside {start} are not handed on, because this run moves the weights and does not record them"
        + (f"; to go on with them: --record {kind}" if kind in rules.names() else "")
        for kind in stale
    )


def hand_on(start: Path, partial: Path, change: Change) -> tuple[str, ...]:
    """Write the companions of a version that is about to be whole.

    Args:
        start: the folder whose weights its run started from.
        partial: folder of the run.
        change: what the run did.

    Returns:
        Notes: what was not handed on and why, and what became unusable.
    """
    room = partial / COMPANIONS
    check_held_still(room)
    shutil.rmtree(room, ignore_errors=True)  # of an earlier try that died
    there = (kind for kind in companions.kinds_in(start) if companions.load(kind).handed_on)
    wanted = {*there, *change.recorded}
    key = own_key() if wanted else None
    if key is None:
        return ()
    notes = [note for kind in sorted(wanted) for note in _handed(kind, start, partial, key, change)]
    if room.is_dir():
        flush_tree(room)
    return tuple(notes)


def settle_beside(partial: Path, change: Change) -> tuple[str, ...]:
    """After a version's weights became others: drop what was handed on and is of no use beside them.

    Args:
        partial: folder of the run.
        change: from what the histories were handed on for to what is saved now.

    Returns:
        Notes: what was dropped and why.
    """
    key, notes = own_key(), list[str]()
    for companion in companions.opened(partial, key) if key is not None else ():
        stale = companion.stale_after(change) if companion.handed_on else ""
        if stale:
            shutil.rmtree(companion.folder)
            notes.append(f"The {companion.kind} beside what was trained were not kept: {stale}.")
        elif companion.handed_on:
            companion.passed_on(change)
            write_owner(companion.folder, change.model)
    return tuple(notes)


def _handed(kind: str, start: Path, partial: Path, key: MarkKey, change: Change) -> Iterator[str]:
    """Copy one kind, add what the run recorded, forget what it forgot."""
    there, place = companions.companion_place(kind, start), companions.companion_place(kind, partial)
    stale = companions.load(kind).open(there, key).stale_after(change) if there.exists() else ""
    if stale:
        yield f"The {kind} of {start} were not handed on: {stale}."
    elif there.exists():
        shutil.copytree(there, place)
    companion = companions.load(kind).open(place, key)
    companion.take_up(partial)
    if not place.exists():
        return
    forgotten = companion.passed_on(change)
    write_owner(place, change.model)
    if forgotten.stale:
        yield f"Of the {kind} {so_many(forgotten.records, 'record')} were deleted with their rows: {forgotten.stale}."
