"""Unlearn what must go."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from palimpsest.report.schema import RunResult
from palimpsest.verbs.progress import Progress, silent
from palimpsest.verbs.update import update
from palimpsest.verbs.usual import usual_method


def unlearn(
    model: str | Path,
    forget: str | Path,
    *,
    output: str | Path,
    method: str | None = None,
    retain: str | Path | None = None,
    holdout: str | Path | None = None,
    general: str | Path | None = None,
    replay: str | Path | None = None,
    base: str | Path | None = None,
    oracle: str | Path | None = None,
    make_oracle: bool = False,
    revision: str | None = None,
    refine: bool | None = None,
    plan: Mapping[str, Any] | None = None,
    progress: Progress = silent,
    threads: int | None = None,
    report_to: Iterable[str] = (),
    ignore_columns: Iterable[str] = (),
) -> RunResult:
    """Make a model forget examples it was trained on.

    Args:
        model: folder or Hub name.
        forget: the forget set: file or Hub name.
        output: folder for the new model and its report; must not exist yet.
        method: an unlearning method; None = the usual one of the kind of model (``verbs/usual.py``).
        retain: examples that must stay; ICU draws its analogous set from them.
        holdout: comparable examples the model never saw: the level of "forgotten".
        general: general text, for its perplexity.
        replay: rehearsed text, for methods that draw from it.
        base: the model before it learned anything, for methods that retrain and for ``make_oracle``.
        oracle: a model retrained without the forget set, to measure beside.
        make_oracle: have one retrained from the base on retain (and replay) beside the output; made once, then reused.
        refine: test every example between epochs and stop when all pass, at a fixed rate; None = for ICU with a fixed
            rate and a holdout.
        plan: sections of the plan, e.g. {"training": {"learning_rate": 1e-3}, "refine": {"ma": 0.6, "el": 0.05}}.
        revision: commit of a Hub name.
        progress: called while it works.
        threads: CPU threads; None = one for a small model.
        report_to: trackers.
        ignore_columns: columns of the data files to leave out.

    Returns:
        The result, as in ``result.json``.

    Raises:
        UsageError, RunError: as ``update``.
    """
    return update(
        model,
        forget=forget,
        retain=retain,
        output=output,
        method=usual_method(model, revision) if method is None else method,
        holdout=holdout,
        general=general,
        replay=replay,
        base=base,
        oracle=oracle,
        make_oracle=make_oracle,
        revision=revision,
        refine=refine,
        plan=plan,
        progress=progress,
        threads=threads,
        report_to=report_to,
        ignore_columns=ignore_columns,
    )
