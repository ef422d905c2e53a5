"""The sets that a method draws from at a request, and refusals of requests that it cannot answer."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from palimpsest import derived, methods
from palimpsest.bench.define.bench_rows import BenchRow
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
    situation, drawn = cell.situation, methods.load(method)
    needs = derived.to_give(drawn.needs)
    wanted = {*needs, *(name for group in drawn.one_of for name in group), *drawn.uses}
    replay = tuple(cell.pool.replay)
    kept = tuple(i for i in situation.memory if memory is None or i in memory)
    given = {
        "learn": situation.request.presented if kind != "unlearn" else (),
        "forget": situation.request.forget if kind != "learn" else (),
        "retain": kept if "replay" in wanted else kept + replay,
        "replay": replay,
    }
    found = {name: ids for name, ids in given.items() if ids and name in wanted}
    for names in (*((name,) for name in needs), *drawn.one_of):
        if not found.keys() & set(names):
            raise DataError(
                f"{_where(cell)}: method {method!r} needs the {' or the '.join(names)} set and it is empty there; "
                "accepted: a stream that learns before it forgets, a larger --buffer, or --replay FILE"
            )
    check_purged(found.get("retain", ()), situation.request.forget)
    return found


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
    tasks = {} if before is None else before.situation.tasks
    temporary = frozenset(() if before is None else before.situation.temporary)
    for what, named in (("forgotten", request.forget), ("consolidated", request.consolidate)):
        ids = frozenset(named)
        touched = {name: frozenset(part) for name, part in tasks.items() if not ids.isdisjoint(part)}
        for name, part in touched.items():
            if not part <= temporary:
                yield f"some of {name!r} is to be {what}, which was learned for good"
            if not part <= ids:
                yield f"a part of {name!r} alone is to be {what}"
        if ids and what == "consolidated" and (request.learn or len(touched) > 1):
            yield "more is presented than one temporary task"


def _where(cell: RequestCell) -> str:
    return f"request {cell.number} ({cell.situation.request.name!r})"
