"""One row on one request: what runs, what is measured. Functions of values alone, so that any process can do them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from palimpsest.bench.define.config import TWIN_SEED
from palimpsest.bench.perform.mixed_step import mixed_step
from palimpsest.bench.perform.one_run import RunFacts
from palimpsest.bench.perform.request_cell import RequestCell
from palimpsest.bench.perform.respond import Response, answer, unanswered
from palimpsest.bench.results import RANDOM, RowStep, StepReading
from palimpsest.errors import DivergedError
from palimpsest.models.load import source_digest


def oracle_step(cell: RequestCell) -> RowStep:
    """Retrain from the first model on all that is known after a request, and measure it.

    Raises:
        DivergedError: the retraining diverged: there is nothing to compare with.
    """
    facts, folder = _retrained(cell, cell.seed)
    try:
        step = _measured(cell, Response(folder, (facts,)), folder)
    except DivergedError as error:
        raise _unfit(cell, str(error)) from None
    if not cell.number:
        step = step.model_copy(update={"start": _start(cell, folder)})
    if not cell.bench.has_twin(forgets=bool(cell.situation.request.forget)):
        return step
    _, twin = _retrained(cell, cell.seed + TWIN_SEED)
    return step.model_copy(update={"twin": cell.read(twin, folder)})


def _start(cell: RequestCell, oracle: Path) -> StepReading | None:
    """The first model on the sets of the first request; None where it says nothing that could be compared."""
    try:
        return cell.read(Path(cell.bench.model), oracle)
    except DivergedError:
        return None


def _retrained(cell: RequestCell, seed: int) -> tuple[RunFacts, Path]:
    sets = {"retain": cell.situation.known, "replay": tuple(cell.pool.replay)}
    plan = cell.bench.plan("unlearn", "retrain", seed)
    given = {name: ids for name, ids in sets.items() if ids}
    facts, folder = cell.run(plan, Path(cell.bench.model), given, cell.oracles)
    if facts.stopped is not None:
        raise _unfit(cell, facts.stopped)
    return facts, folder


def _unfit(cell: RequestCell, reason: str) -> DivergedError:
    problem = f"the oracle of request {cell.number} is no model to compare with ({reason})"
    return DivergedError(f"{problem}; change learning.training or oracle.training")


def row_step(cell: RequestCell, label: str, oracle: RowStep, *others: RowStep) -> RowStep:
    """Let a row answer a request, and measure the model that comes out beside the oracle.

    A run that diverges is rejected with all of the request: the row goes on from the model before it.

    Args:
        cell: request and seed.
        label: of the row.
        oracle: of this request.
        others: the row on the request before, unless this is the first; then, for the random edit that must be as
            long, the first row on this request.
    """
    before = others[0] if cell.number else None
    edit = {"norm": others[-1].norm, "seed": cell.seed} if label == RANDOM else {}
    found = answer(cell, label, before, edit)
    try:
        step = _measured(cell, found, Path(oracle.model))
        if not cell.bench.calibrate or found.since is None or found.stopped is not None:
            return step
        return step.model_copy(update={"calibrated": mixed_step(cell, found.since, found.folder, Path(oracle.model))})
    except DivergedError as error:
        kept = replace(unanswered(cell, before), runs=found.runs, stopped=str(error))
        return _measured(cell, kept, Path(oracle.model))


def _measured(cell: RequestCell, found: Response, oracle: Path) -> RowStep:
    runs = found.runs
    norms = [facts.norm for facts in runs if facts.kind != "learn" and facts.stopped is None]
    return RowStep(
        model=str(found.folder),
        weights=source_digest(found.folder),
        sides=dict(found.sides),
        runs=tuple(facts.plan for facts in runs),
        stopped=found.stopped,
        seconds=sum(facts.seconds for facts in runs),
        tokens=sum(facts.tokens for facts in runs),
        norm=norms[0] if norms else None,
        reading=cell.read(found.folder, oracle, found.sides),
    )
