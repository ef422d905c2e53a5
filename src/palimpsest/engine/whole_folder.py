"""A version that is whole or not there: what calibrations, hardenings and federations do alike with their folder."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from palimpsest.companions.learned import LEARNED_FILE
from palimpsest.durable import flush_tree
from palimpsest.engine.any_plan import AnyPlan
from palimpsest.engine.execute import cleared_if_refused, shown_again
from palimpsest.engine.given import Manner
from palimpsest.engine.output import RESULT, Output
from palimpsest.engine.sound import drop_damaged
from palimpsest.engine.unfinished import told_how_far
from palimpsest.files import write_atomic
from palimpsest.report.page import PAGE, save_html
from palimpsest.report.schema import RunResult


def made_whole(
    plan: AnyPlan,
    manner: Manner,
    made: Callable[[Output], RunResult],
    heir_of: Callable[[RunResult], str] | None = None,
    clearing: Callable[[Output], AbstractContextManager[None]] = cleared_if_refused,
) -> RunResult:
    """Make a version in an output folder; the same call again goes on where a dead one stopped.

    Args:
        plan: with the digests of its inputs.
        manner: where to, and how it goes about it.
        made: everything that loads, measures and saves, in the partial folder.
        heir_of: the model whose list of learned and forgotten rows the version takes over; None = ``made`` writes one.
        clearing: what becomes of the partial folder where an error ends it.

    Raises:
        UsageError: something supplied cannot be used; nothing was written.
        Interrupted: Ctrl-C or SIGTERM stopped it; the partial folder holds what was done.
    """
    target = Output(manner.output)
    if target.finished(plan):
        return shown_again(target, manner)
    with told_how_far(target.partial), target.held():
        if target.finished(plan):
            return shown_again(target, manner)
        target.begin(plan)
        drop_damaged(target.partial, manner.progress)
        with clearing(target):
            result = made(target)
        if heir_of is not None:
            _take_over(target, heir_of(result))
        _write(target, result)
        target.complete()
    return result


def _take_over(target: Output, source: str) -> None:
    """The list of learned and forgotten rows of another model."""
    record = Path(source).expanduser() / LEARNED_FILE
    if record.is_file():
        write_atomic(target.partial / LEARNED_FILE, record.read_text(encoding="utf-8"))


def _write(target: Output, result: RunResult) -> None:
    """Write what lies beside the model; ``result.json`` last."""
    save_html(result, target.partial / PAGE)
    flush_tree(target.partial)
    result.save_json(target.partial / RESULT)
