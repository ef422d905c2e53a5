"""Learn what is new and unlearn what must go, in one run. ``learn`` and ``unlearn`` are the special cases."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from accelerate.tracking import get_available_trackers

from palimpsest.errors import PlanError, unknown
from palimpsest.report.schema import RunResult
from palimpsest.verbs.execute import execute
from palimpsest.verbs.oracle import make_oracle as with_oracle
from palimpsest.verbs.plan import as_text, checked_sections, make_plan
from palimpsest.verbs.progress import Progress, silent

TRACKERS = ("tensorboard", "trackio", "wandb")


def update(
    model: str | Path,
    *,
    output: str | Path,
    learn: str | Path | None = None,
    forget: str | Path | None = None,
    retain: str | Path | None = None,
    method: str = "ug_clu",
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
    """Change a model along one trajectory: towards the learn set, away from the forget set, true to the retain set.

    Args:
        model: folder or Hub name.
        output: folder for the new model and its report; must not exist yet.
        learn: examples to learn: file or Hub name.
        forget: examples to unlearn; at least one of the two is given.
        retain: examples that must stay: what the model learned before, or a memory of it.
        method: one that does what is asked; see ``palimpsest methods``.
        holdout: comparable examples the model never saw: the level of "forgotten".
        general: general text, for its perplexity.
        replay: earlier or general examples rehearsed beside, for methods that draw from them.
        base: the model before it learned anything, for methods that retrain.
        oracle: a model retrained without the forget set, to measure beside.
        make_oracle: have one retrained from the base on retain (and replay) beside the output; made once, then reused.
        revision: commit of a Hub name.
        refine: test every forget example between epochs and stop when all pass, at a fixed rate; None = for ICU with a
            fixed rate and a holdout.
        plan: sections of the plan, e.g. {"training": {"learning_rate": 1e-3}, "refine": {"ma": 0.6, "el": 0.05}}.
        progress: called while it works.
        threads: CPU threads; None = one for a small model.
        report_to: trackers.
        ignore_columns: columns of the data files to leave out.

    Returns:
        The result, as in ``result.json``.

    Raises:
        UsageError: something supplied cannot be used; nothing was written.
        RunError: the run could not end as planned.
    """
    given = {"learn": learn, "forget": forget, "retain": retain}
    given |= {"holdout": holdout, "general": general, "replay": replay}
    models = {"model": model, "revision": revision, "base": base, "oracle": oracle}
    fields = {"kind": kind_of(learn, forget), "method": method, "files": as_text(given), **as_text(models)}
    refined: dict[str, Any] = {} if refine is None else {"refine": {} if refine else None}
    made = make_plan(fields, {**refined, **checked_sections({} if plan is None else plan, "plan")})
    trackers, ignored = _trackers(report_to), frozenset(ignore_columns)
    if make_oracle:
        made = with_oracle(made, output, progress=progress, threads=threads, ignore_columns=ignored)
    return execute(made, output, progress=progress, threads=threads, trackers=trackers, ignore_columns=ignored)


def _trackers(names: str | Iterable[str]) -> tuple[str, ...]:
    given = (names,) if isinstance(names, str) else tuple(names)
    for name in given:
        if name not in TRACKERS:
            raise PlanError(unknown("tracker to report to", name, TRACKERS))
        if name not in map(str, get_available_trackers()):  # Accelerate would report to nobody
            raise PlanError(f"report_to = {name}: it is not installed; pip install {name}, or report to nothing")
    return given


def kind_of(learn: object | None, forget: object | None) -> str:
    """Whether it is an "update", "learn" or "unlearn", by what was given.

    Raises:
        PlanError: neither was.
    """
    if learn is None and forget is None:
        raise PlanError("nothing to do: give what to learn (--learn FILE), what to forget (--forget FILE), or both")
    if learn is None:
        return "unlearn"
    return "learn" if forget is None else "update"
