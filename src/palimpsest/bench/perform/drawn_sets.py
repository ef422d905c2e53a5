"""The sets that a method draws from at a request, and refusals of requests that it cannot answer."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from palimpsest import derived, methods
from palimpsest.bench.define.bench_rows import BenchRow
from palimpsest.bench.define.situations import Parts
from palimpsest.bench.perform.request_cell import Ids, RequestCell
from palimpsest.data.memory.purge import check_purged
from palimpsest.errors import DataError, PlanError


def sets_for(cell: RequestCell, method: str, kind: str, *, memory: Collection[str] | None = None) -> Ids:
    """Set name -> ids, for the sets that a method draws from.

    The general examples are a set of their own where the method rehearses one, else a part of the memory.

    Args:
        cell: the request.
        method: by name.
        kind: what it is to do.
        memory: the part of the memory that it may see; None = all.

    Raises:
        DataError: a set that it cannot work without is empty here.
    """
    drawn = methods.load(method)
    needs = derived.to_give(drawn.needs)
    wanted = {*needs, *(name for group in drawn.one_of for name in group), *drawn.uses}
    given = _given(cell, kind, memory, rehearsed="replay" in wanted)
    found = {name: ids for name, ids in given.items() if ids and name in wanted}
    for names in (*zip(needs), *drawn.one_of):
        if found.keys().isdisjoint(names):
            raise DataError(
                f"{_where(cell)}: method {method!r} needs the {' or the '.join(names)} set and it is empty there; "
                "accepted: a stream that learns before it forgets, a larger --buffer, or --replay FILE"
            )
    check_purged(found.get("retain", ()), cell.situation.request.forget)
    return found


def _given(cell: RequestCell, kind: str, memory: Collection[str] | None, *, rehearsed: bool) -> Ids:
    """The sets that a request has for a run; some may be empty.

    Args:
        cell: the request.
        kind: what the run is to do.
        memory: the part of the memory that it may see; None = all.
        rehearsed: are the general examples a set of their own?
    """
    request, replay = cell.situation.request, tuple(cell.pool.replay)
    kept = tuple(i for i in cell.situation.memory if memory is None or i in memory)
    return {
        "learn": request.presented if kind != "unlearn" else (),
        "forget": request.forget if kind != "learn" else (),
        "retain": kept if rehearsed else kept + replay,
        "replay": replay,
    }


def check_answerable(cell: RequestCell, label: str, row: BenchRow, before: RequestCell | None) -> None:
    """Refuse a request that a row cannot answer, before anything runs.

    Raises:
        DataError: a set that one of its methods needs is empty.
        PlanError: it isolates, and the request is about something else than whole temporary tasks.
    """
    request = cell.situation.request
    if row.isolates:
        if problem := next(_not_isolated(cell, before), None):
            raise PlanError(
                f"row {label!r} cannot answer {_where(cell)}: {problem}; accepted: --stream task-aware, where whole "
                "tasks that were learned temporarily (T) are consolidated or forgotten"
            )
        return
    for kind, method in row.parts(learns=bool(request.presented), forgets=bool(request.forget)):
        sets_for(cell, method, kind)


def _not_isolated(cell: RequestCell, before: RequestCell | None) -> Iterator[str]:
    request = cell.situation.request
    tasks: Parts = {} if before is None else before.situation.tasks
    temporary = frozenset(() if before is None else before.situation.temporary)
    forget, consolidate = frozenset(request.forget), frozenset(request.consolidate)
    yield from _not_whole("forgotten", forget, tasks, temporary)
    yield from _not_whole("consolidated", consolidate, tasks, temporary)
    if consolidate and (request.learn or sum(not consolidate.isdisjoint(part) for part in tasks.values()) > 1):
        yield "more is presented than one temporary task"


def _not_whole(what: str, ids: frozenset[str], tasks: Parts, temporary: frozenset[str]) -> Iterator[str]:
    for name, members in tasks.items():
        part = frozenset(members)
        touched = not ids.isdisjoint(part)
        if touched and not part <= temporary:
            yield f"some of {name!r} is to be {what}, which was learned for good"
        if touched and not part <= ids:
            yield f"a part of {name!r} alone is to be {what}"


def _where(cell: RequestCell) -> str:
    return f"request {cell.number} ({cell.situation.request.name!r})"
