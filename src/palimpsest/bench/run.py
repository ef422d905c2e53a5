"""A whole bench: the requests checked, then every cell as a chain of steps, then one result."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from palimpsest.bench.cell import Cell, read_anew, situations_of
from palimpsest.bench.config import Bench
from palimpsest.bench.graph import Task, run_tasks
from palimpsest.bench.page import save_html
from palimpsest.bench.pool import pool_of_bench
from palimpsest.bench.results import ORACLE, RANDOM, BenchResult, RequestInfo, Step
from palimpsest.bench.sets import check_answerable
from palimpsest.bench.situations import Situation
from palimpsest.bench.steps import oracle_step, row_step
from palimpsest.bench.summary import summary
from palimpsest.errors import DataError, Interrupted, reachable
from palimpsest.models.load import check_folder, load
from palimpsest.report.files import write_atomic
from palimpsest.verbs.inputs import encode_set
from palimpsest.verbs.outcome import environment
from palimpsest.verbs.progress import Progress, silent

RESULTS, SUMMARY, REPORT = "results.json", "summary.json", "report.html"
FOLDERS = ("oracles", "readings", "runs")


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
    new. ``results.json`` (facts), ``summary.json``
    (the numbers of the tables) and ``report.html`` are written at the end.

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
    _check_place(folder)
    read_anew()
    cells = {seed: _cells(bench, folder, Path(oracles or folder / "oracles"), seed) for seed in bench.seeds}
    _check(bench, cells)
    for place in (folder, Path(oracles or folder)):
        try:
            place.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(f"{place}: {error.strerror or error}; give a folder that can be made") from None
    tasks = {name: task for seed in bench.seeds for name, task in _tasks(bench, cells[seed]).items()}

    def done(name: str, finished: int, total: int) -> None:
        progress("bench", finished, total, name)

    try:
        steps = run_tasks(tasks, jobs=jobs, threads=threads, done=done)
    except Interrupted as stop:
        raise Interrupted(f"{stop}; they lie in {folder}, with a checkpoint of what was under way") from stop
    result = BenchResult(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        bench=bench.model_dump(mode="json"),
        streams={seed: tuple(_info(cell.situation) for cell in chain) for seed, chain in cells.items()},
        rows={label: _of_row(label, cells, steps) for label in (ORACLE, *bench.all_rows)},
        environment=environment(threads),
    )
    result.save_json(folder / RESULTS)
    write_atomic(folder / SUMMARY, json.dumps(summary(result), indent=1) + "\n")
    save_html(result, folder / REPORT)
    return result


def _check_place(folder: Path) -> None:
    """A bench writes only where it made the folder, or found it empty: its page has the name of any run's."""
    reachable(folder, "output")
    if folder.exists() and not folder.is_dir():
        raise DataError(f"--output {folder} is a file; give a new folder, or one of an earlier bench")
    if folder.exists() and any(folder.iterdir()) and not any((folder / name).is_dir() for name in FOLDERS):
        raise DataError(f"--output {folder} holds something else than a bench; give a new folder, or one of a bench")


def _cells(bench: Bench, folder: Path, oracles: Path, seed: int) -> tuple[Cell, ...]:
    return tuple(Cell(bench, folder, oracles, seed, number) for number in range(len(situations_of(bench, seed))))


def _check(bench: Bench, cells: dict[int, tuple[Cell, ...]]) -> None:
    """Every set that any run will need is there, and its examples are some for the model."""
    check_folder(Path(bench.model))
    _check_examples(bench)
    for cell in (cell for chain in cells.values() for cell in chain):
        if not cell.situation.known:
            raise DataError(
                f"request {cell.number} ({cell.situation.request.name!r}) leaves nothing known, so that there is "
                "nothing to train its oracle on; accepted: a stream that keeps something"
            )
        before = cells[cell.seed][cell.number - 1] if cell.number else None
        for label, row in bench.all_rows.items():
            check_answerable(cell, label, row, before)


def _check_examples(bench: Bench) -> None:
    loaded, pool = load(bench.model), pool_of_bench(bench)
    for where, examples in (("data", pool.data), ("test", pool.test), ("replay", pool.replay)):
        try:
            encode_set(list(examples.values()), loaded, bench.encoding)
        except DataError as error:
            raise DataError(f"--{where}: {error}") from None


def _tasks(bench: Bench, chain: tuple[Cell, ...]) -> dict[str, Task]:
    """All steps of one seed, request by request."""
    first = next(iter(bench.rows))
    tasks: dict[str, Task] = {}
    for cell in chain:
        oracle = _name(ORACLE, cell)
        tasks[oracle] = Task(oracle_step, (cell,))
        for label in bench.all_rows:
            after = [oracle]
            after += [_name(label, chain[cell.number - 1])] if cell.number else []
            after += [_name(first, cell)] if label == RANDOM else []
            tasks[_name(label, cell)] = Task(row_step, (cell, label), tuple(after))
    return tasks


def _name(label: str, cell: Cell) -> str:
    return f"{label}, seed {cell.seed}, request {cell.number}"


def _of_row(label: str, cells: dict[int, tuple[Cell, ...]], steps: dict[str, Any]) -> dict[int, tuple[Step, ...]]:
    return {seed: tuple(steps[_name(label, cell)] for cell in chain) for seed, chain in cells.items()}


def _info(situation: Situation) -> RequestInfo:
    request = situation.request
    return RequestInfo(
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
