"""How a row answers a request: by one run, by a chain of two, or by networks of their own for temporary tasks.

An isolating method (``Method.isolates``) learns what is temporary in a copy of the model, the side network, which
answers for its task until that is forgotten, and the network with it, or consolidated into the main one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from palimpsest import methods
from palimpsest.bench.define.bench_rows import BenchRow
from palimpsest.bench.perform.drawn_sets import sets_for
from palimpsest.bench.perform.one_run import RunFacts
from palimpsest.bench.perform.request_cell import RequestCell
from palimpsest.bench.results import RANDOM, RowStep


@dataclass(frozen=True)
class Response:
    """What came of a request.

    Attributes:
        folder: of the model.
        runs: in order.
        stopped: why the model is the one before, or None.
        sides: request that taught temporarily -> folder of its side network.
        since: the model that the run which forgets began with; None where none did.
    """

    folder: Path
    runs: tuple[RunFacts, ...] = ()
    stopped: str | None = None
    sides: Mapping[str, str] = field(default_factory=dict)
    since: Path | None = None


_NONE_TO_EQUAL = "there is no edit to equal: the row that it is as long as moved no weight"


def unanswered(cell: RequestCell, before: RowStep | None) -> Response:
    """Where a row stands before a request; a side network is forgotten with its task, whatever comes of the rest."""
    if before is None:
        return Response(Path(cell.bench.model))
    sides = {name: folder for name, folder in before.sides.items() if name in cell.situation.tasks}
    return Response(Path(before.model), sides=sides)


def answer(cell: RequestCell, label: str, before: RowStep | None, edit: Mapping[str, Any]) -> Response:
    """Let a row answer a request.

    Args:
        cell: request and seed.
        label: of the row.
        before: the row on the request before; None at the first one.
        edit: options of the random edit, for its row.
    """
    row, start = cell.bench.all_rows[label], unanswered(cell, before)
    if row.isolates:
        return _isolated(cell, row, start)
    found, request = start, cell.situation.request
    for kind, method in row.parts(learns=bool(request.presented), forgets=bool(request.forget)):
        edits = label == RANDOM and kind == "unlearn"
        if edits and not edit["norm"]:
            return replace(start, runs=found.runs, stopped=_NONE_TO_EQUAL)
        plan = cell.bench.plan(kind, method, cell.seed, row=row, options=edit if edits else None)
        origin = Path(cell.bench.model) if methods.load(method).starts_from == "base" else found.folder
        since = found.since if kind == "learn" else found.folder
        facts, folder = cell.run(plan, origin, sets_for(cell, method, kind), cell.output / "runs")
        found = Response(folder, (*found.runs, facts), since=since)
        if facts.stopped is not None:
            return replace(start, runs=found.runs, stopped=facts.stopped)
    return found


def _isolated(cell: RequestCell, row: BenchRow, start: Response) -> Response:
    situation = cell.situation
    request = situation.request
    sides = dict(start.sides)
    if not request.presented:
        return start
    taught = [name for name in sides if set(situation.tasks[name]) & set(request.consolidate)]
    options = {"side": sides.pop(taught[0])} if taught else {}
    plan = cell.bench.plan("learn", row.learner, cell.seed, row=row, options=options)
    lasting = frozenset(situation.memory).difference(situation.temporary)
    sets = sets_for(cell, row.learner, "learn", memory=() if request.kind == "T" else lasting)
    facts, folder = cell.run(plan, start.folder, sets, cell.output / "runs")
    if facts.stopped is not None:
        return replace(start, runs=(facts,), stopped=facts.stopped)
    if request.kind == "T":
        return Response(start.folder, (facts,), sides={**sides, request.name: str(folder)})
    return Response(folder, (facts,), sides=sides)
