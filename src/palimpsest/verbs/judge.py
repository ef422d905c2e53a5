"""Reach a verdict anew from what a run recorded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from palimpsest.data.read.contents import shown
from palimpsest.engine.recorded import recorded
from palimpsest.engine.verdict import judged
from palimpsest.errors import UsageError
from palimpsest.report.schema import RunResult
from palimpsest.verbs.arguments import as_texts


def judge(
    run: str | Path | RunResult, *, gates: Iterable[Mapping[str, Any]] | None = None, bounds: str | Iterable[str] = ()
) -> RunResult:
    """Hold gates against the scores of a run that ended, today or years ago. Nothing is measured or written.

    Args:
        run: its folder, its ``result.json``, or the result itself.
        gates: rows as in a plan file, in the place of all that were asked; None = those that it was judged by.
        bounds: lines such as "retain es >= 0.9 * before", each in the place of the gate of the same set and metric.

    Returns:
        The result with the verdict and the advice that follow.

    Raises:
        UsageError: no run is there, it is not as it was left, or a gate is none or on what was not measured.
    """
    if not isinstance(run, str | Path | RunResult):
        raise UsageError(
            f"run is {shown(run)}; accepted: the folder of a run, its result.json, or the result that a verb gave"
        )
    lines = as_texts(bounds, "bounds")
    return judged(run if isinstance(run, RunResult) else recorded(run).result, gates, lines)
