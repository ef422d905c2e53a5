"""What a verb shows while it works: a progress bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from palimpsest.report.schema import RunResult
    from palimpsest.verbs.progress import Progress

SECONDS_BETWEEN_LINES = 10.0


@contextmanager
def shown_progress(*, quiet: bool) -> Iterator[Progress]:
    """A progress callback on stderr.

    Args:
        quiet: tell nothing (``--json``).
    """
    if quiet:
        yield _nothing
    elif sys.stderr.isatty():
        with _bars() as progress:
            yield progress
    else:
        yield _Lines()


def _nothing(stage: str, done: int, total: int, note: str = "") -> None:
    """Tell nothing."""


@contextmanager
def _bars() -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with RichProgress(*columns, console=Console(stderr=True)) as display:
        tasks = {}

        def tell(stage: str, done: int, total: int, note: str = "") -> None:
            if stage not in tasks:
                tasks[stage] = display.add_task(stage, total=total, note=note)
            display.update(tasks[stage], completed=done, total=total, note=note)

        yield tell


class _Lines:
    """A line when a stage begins or ends, and every few seconds between."""

    def __init__(self) -> None:
        self._stage = ""
        self._last = 0.0

    def __call__(self, stage: str, done: int, total: int, note: str = "") -> None:
        now = time.monotonic()
        if stage != self._stage or done == total or now - self._last >= SECONDS_BETWEEN_LINES:
            self._stage, self._last = stage, now
            print(f"{stage}: {done}/{total} {note}".rstrip(), file=sys.stderr, flush=True)


def summary(result: RunResult) -> str:
    """Table, why training ended, verdict and its gates, as plain text."""
    from palimpsest.report.text import table

    lines = [table(result), "", f"training ended: {result.stopped}"]
    if result.verdict is not None:
        lines += [result.verdict.sentence, *(f"  {gate.outcome:9} {gate.sentence}" for gate in result.verdict.gates)]
    return "\n".join(lines)


def show_result(result: RunResult, folder: str, *, as_json: bool) -> int:
    """Print a finished run; the exit code of its verdict."""
    from palimpsest.records import Outcome

    if as_json:
        print(result.model_dump_json(indent=1))
    else:
        print(summary(result))
        print(f"\nmodel   {folder}\nreport  {folder}/report.html")
    failed = result.verdict is not None and result.verdict.outcome is Outcome.FAILED
    return 1 if failed else 0
