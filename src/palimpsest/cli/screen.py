"""What a verb shows while it works: a progress bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from palimpsest.cli.saying import is_terminal, plain_stderr, tell, tell_beside, tell_json
from palimpsest.printed import printable

if TYPE_CHECKING:
    from palimpsest.engine.progress import Progress
    from palimpsest.report.schema import RunResult

SECONDS_BETWEEN_LINES = 10.0
EXIT_CODES = {"passed": 0, "passed as served": 3, "failed": 1, "undecided": 3}


@contextmanager
def shown_progress(*, quiet: bool) -> Iterator[Progress]:
    """A progress callback on stderr.

    Args:
        quiet: tell nothing (``--json``).
    """
    if quiet:
        yield _nothing
    elif is_terminal():
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
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    console = Console(file=plain_stderr())
    with RichProgress(*columns, console=console, redirect_stdout=False, redirect_stderr=False) as display:
        tasks = {}

        def show(stage: str, done: int, total: int, note: str = "") -> None:
            stage, note = printable(stage), printable(note)
            if not total:
                console.print(_news(stage, note), markup=False, highlight=False, soft_wrap=True)
                return
            if stage not in tasks:
                tasks[stage] = display.add_task(stage, total=total, note=note)
            display.update(tasks[stage], completed=done, total=total, note=note)

        yield show


def _news(stage: str, note: str) -> str:
    return printable(f"{stage}: {note}" if note else stage)


class _Lines:
    """A line when a stage begins or ends, and every few seconds between."""

    def __init__(self) -> None:
        self._stage = ""
        self._last = 0.0

    def __call__(self, stage: str, done: int, total: int, note: str = "") -> None:
        now = time.monotonic()
        if stage != self._stage or done == total or now - self._last >= SECONDS_BETWEEN_LINES:
            self._stage, self._last = stage, now
            words = printable(f"{stage}: {done}/{total} {note}".rstrip()) if total else _news(stage, note)
            tell_beside(words)


def run_summary(result: RunResult) -> str:
    """Table, what the models say, why training ended, verdict with its gates, what to do next, as plain text."""
    from palimpsest.report.edit_info import edited_lines, neurons_text
    from palimpsest.report.given_back import given_back
    from palimpsest.report.guard_info import guarded_lines
    from palimpsest.report.meaning import where_to
    from palimpsest.report.prompt_info import prompts_text
    from palimpsest.report.row_places import with_places
    from palimpsest.report.said import answers_text, heading
    from palimpsest.report.terminal import table, verdict

    result = with_places(result)
    level = [where_to(result)] if result.level is not None else []
    said = ["", heading(result), *answers_text(result.answers)] if result.answers else []
    back = ["", *given_back(result)] if result.calibration is not None else []
    cut = ["", *edited_lines(result), *neurons_text(result)] if result.edit is not None else []
    prompts = ["", *prompts_text(result)] if result.prompts else []
    ended = [f"training ended: {result.stopped}"] if result.kind != "calibrate" else []
    first = [result.first_line, *guarded_lines(result), ""] if result.first_line else []
    return "\n".join(
        [*first, table(result), *said, *back, *cut, *prompts, "", *ended, *level, *verdict(result)]
    ).rstrip()


def show_result(result: RunResult, folder: str, *, as_json: bool) -> int:
    """Print a finished run.

    Returns:
        Exit code: 0 passed, or nothing was asked of it; 1 failed, or nothing of a change could stay; 3 undecided,
        or passed as served: only with a part that hides what the weights still know.
    """
    if as_json:
        tell_json(result.model_dump_json(indent=1))
    else:
        tell(run_summary(result))
        tell(f"\nmodel   {folder}\nreport  {folder}/report.html")
    if result.kind == "calibrate":
        return 0 if result.calibration is not None and result.calibration.alpha else 1
    return 0 if result.verdict is None else EXIT_CODES[result.verdict.outcome]
