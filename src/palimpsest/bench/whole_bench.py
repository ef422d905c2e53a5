"""A whole bench: every request checked, then the steps of all rows and seeds, then one result."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from palimpsest.bench.define.config import Bench
from palimpsest.bench.define.place import REPORT, RESULTS, SUMMARY, check_place
from palimpsest.bench.define.pool import pool_of_bench
from palimpsest.bench.define.situations import Situation
from palimpsest.bench.perform.drawn_sets import check_answerable
from palimpsest.bench.perform.mixed_step import with_mixed
from palimpsest.bench.perform.parallel import WaitingTask, run_tasks
from palimpsest.bench.perform.request_cell import RequestCell, read_anew, situations_of
from palimpsest.bench.perform.row_step import oracle_step, row_step
from palimpsest.bench.results import ORACLE, RANDOM, BenchResult, RowStep, StreamRequestInfo
from palimpsest.bench.show.bench_page import save_bench_html
from palimpsest.bench.show.summary import summary
from palimpsest.engine.inputs import encode_set
from palimpsest.engine.outcome import environment
from palimpsest.engine.progress import Progress, silent
from palimpsest.errors import DataError, Interrupted
from palimpsest.files import write_atomic
from palimpsest.models.load import check_folder

CellChains = dict[int, tuple[RequestCell, ...]]
"""Seed -> its requests in order."""


def run_bench(
    bench: Bench,
    output: str | Path,
    *,
    oracles: str | Path | None = None,
    jobs: int = 1,
    threads: int = 1,
    progress: Progress = silent,
) -> BenchResult:
    """Run a bench into a folder; the same call again goes on where a dead one stopped.

    What was done is kept by the digest of all that defines it, so a changed bench in the same folder does only what is
    new. ``results.json`` (facts), ``summary.json`` (the numbers of the tables) and ``report.html`` are written at the
    end.

    Args:
        bench: from ``make_bench``.
        output: folder, made if it does not exist.
        oracles: folder of retrained models that benches share; None = ``<output>/oracles``.
        jobs: processes.
        threads: CPU threads of each.
        progress: told every step that is done.

    Raises:
        UsageError: something supplied cannot be used; nothing was trained.
        RunError: an oracle could not be trained.
    """
    folder = Path(output)
    check_place(folder)
    read_anew()
    cells = {seed: _cells(bench, folder, Path(oracles or folder / "oracles"), seed) for seed in bench.seeds}
    _check(bench, cells)
    _make_places(folder, Path(oracles or folder))
    tasks = {name: task for seed in bench.seeds for name, task in _tasks(bench, cells[seed]).items()}

    def done(name: str, finished: int, total: int) -> None:
        progress("bench", finished, total, name)

    try:
        steps = run_tasks(tasks, jobs=jobs, threads=threads, done=done)
    except Interrupted as stop:
        raise Interrupted(f"{stop}; they lie in {folder}, with a checkpoint of what was under way") from stop
    result = _result(bench, cells, steps, threads)
    result.save_json(folder / RESULTS)
    write_atomic(folder / SUMMARY, json.dumps(summary(result), indent=1) + "\n")
    save_bench_html(result, folder / REPORT)
    return result


def _make_places(*places: Path) -> None:
    for place in places:
        try:
            place.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(f"{place}: {error.strerror or error}; give a folder that can be made") from None


def _cells(bench: Bench, folder: Path, oracles: Path, seed: int) -> tuple[RequestCell, ...]:
    return tuple(RequestCell(bench, folder, oracles, seed, number) for number in range(len(situations_of(bench, seed))))


def _check(bench: Bench, cells: CellChains) -> None:
    """Every set that any run will need is there, and its examples are some for the model."""
    check_folder(Path(bench.model))
    _check_examples(bench, next(iter(cells.values()))[-1])
    for cell in (cell for chain in cells.values() for cell in chain):
        if not cell.situation.known:
            raise DataError(
                f"request {cell.number} ({cell.situation.request.name!r}) leaves nothing known, so that there is "
                "nothing to train its oracle on; accepted: a stream that keeps something"
            )
        before = cells[cell.seed][cell.number - 1] if cell.number else None
        for label, row in bench.all_rows.items():
            check_answerable(cell, label, row, before)


def _check_examples(bench: Bench, last: RequestCell) -> None:
    loaded, pool = last.loaded(Path(bench.model)), pool_of_bench(bench)
    test = tuple(pool.test) if bench.head == "keep" else pool.tested(pool.data)
    for where, ids in (("data", tuple(pool.data)), ("test", test), ("replay", tuple(pool.replay))):
        try:
            encode_set(pool.examples(ids), loaded, bench.encoding)
        except DataError as error:
            raise DataError(f"--{where}: {error}") from None


def _tasks(bench: Bench, chain: tuple[RequestCell, ...]) -> dict[str, WaitingTask]:
    """All steps of one seed, request by request."""
    tasks: dict[str, WaitingTask] = {}
    for cell in chain:
        oracle = _name(ORACLE, cell)
        tasks[oracle] = WaitingTask(oracle_step, (cell,))
        for label in bench.all_rows:
            after = [oracle]
            after += [_name(label, chain[cell.number - 1])] if cell.number else []
            after += [_name(bench.equalled, cell)] if label == RANDOM else []
            tasks[_name(label, cell)] = WaitingTask(row_step, (cell, label), tuple(after))
    return tasks


def _name(label: str, cell: RequestCell) -> str:
    return f"{label}, seed {cell.seed}, request {cell.number}"


def _result(bench: Bench, cells: CellChains, steps: dict[str, Any], threads: int) -> BenchResult:
    return BenchResult(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        bench=bench.model_dump(mode="json"),
        streams={seed: tuple(_info(cell.situation) for cell in chain) for seed, chain in cells.items()},
        rows=with_mixed({label: _of_row(label, cells, steps) for label in (ORACLE, *bench.all_rows)}),
        environment=environment(threads),
    )


def _of_row(label: str, cells: CellChains, steps: dict[str, Any]) -> dict[int, tuple[RowStep, ...]]:
    return {seed: tuple(steps[_name(label, cell)] for cell in chain) for seed, chain in cells.items()}


def _info(situation: Situation) -> StreamRequestInfo:
    request = situation.request
    return StreamRequestInfo(
        name=request.name,
        kind=request.kind,
        task=request.task,
        learn=len(request.presented),
        forget=len(request.forget),
        remaining=len(situation.remaining),
        memory=len(situation.memory),
        tasks={name: len(ids) for name, ids in situation.tasks.items()},
        forgotten={name: len(ids) for name, ids in situation.forgotten.items()},
    )
