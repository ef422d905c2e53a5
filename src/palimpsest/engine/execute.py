"""One run from plan to report: all stages, into a folder that is whole or not there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from palimpsest.engine.answering import answered
from palimpsest.engine.behind import behind, with_guard
from palimpsest.engine.edited import edited, features_of
from palimpsest.engine.given import Manner
from palimpsest.engine.giving_back import give_back, settle_restored
from palimpsest.engine.handing_on import change_by, settle_beside
from palimpsest.engine.inputs import Read
from palimpsest.engine.kept import notes_of
from palimpsest.engine.outcome import RunSetting, result_of
from palimpsest.engine.output import RESULT, Output
from palimpsest.engine.plan import Plan
from palimpsest.engine.prompts_used import prompts_used
from palimpsest.engine.query_cost import with_queries
from palimpsest.engine.recorded import answers_out, recorded
from palimpsest.engine.sound import drop_damaged
from palimpsest.engine.stages import make_version, measure_column, open_run, resolved, write_record
from palimpsest.engine.train import Trained
from palimpsest.engine.unfinished import told_how_far
from palimpsest.errors import RunError, UsageError
from palimpsest.models.load import Loaded
from palimpsest.report.calibration_row import CalibrationInfo
from palimpsest.report.schema import RunResult


def execute(plan: Plan, read: Read, manner: Manner) -> RunResult:
    """Run a plan into an output folder; the same call again goes on where a dead one stopped.

    Args:
        plan: what to do; ``check_needs`` has passed.
        read: its sets.
        manner: where to, and how it goes about it.

    Returns:
        The result, as written to ``result.json``.

    Raises:
        UsageError: something supplied cannot be used; nothing was written.
        RunError: the run could not end as planned; the partial folder is left for a look.
        Interrupted: Ctrl-C or SIGTERM stopped it; the partial folder holds all that was done.
    """
    plan, target = resolved(plan, read), Output(manner.output)
    if target.finished(plan):
        return shown_again(target, manner)
    with told_how_far(target.partial), target.held():
        if target.finished(plan):  # by another process since, or by one that died before it was put in place
            return shown_again(target, manner)
        run, before = open_run(plan, read, manner)
        target.begin(plan)
        settle_restored(target.partial)
        drop_damaged(target.partial, manner.progress)
        with cleared_if_refused(target):
            result = _run_in(target, run, before)
        write_record(run, target, result)
        target.complete()
    return result


def _run_in(target: Output, run: RunSetting, before: Loaded) -> RunResult:
    """Everything that trains and measures."""
    columns = {"before": measure_column(run, target, "before", before)}
    features = features_of(run, before)
    trained, saved = make_version(run, target, before)
    kept = None
    if run.plan.restore is not None:
        columns["raw"] = measure_column(run, target, "raw", saved)
        del saved  # what is given back is mixed in one model
        trained, saved, kept = give_back(run, target, trained)
        trained = replace(trained, notes=(*trained.notes, *_beside_given_back(run, target, trained, kept)))
    columns["after"] = measure_column(run, target, "after", saved)
    hidden = behind(run, target, saved)
    columns |= {} if hidden is None else {"without": hidden.measured}
    edit, prompts = edited(run, target, features, saved), prompts_used(run, saved)
    said = answered(run, saved, columns["after"][0])
    del saved  # one model less while the oracle is measured
    if run.plan.oracle is not None:
        columns["oracle"] = measure_column(run, target, "oracle", run.plan.oracle)
    result = with_guard(result_of(run, columns, trained, target.partial, said), hidden)
    result = with_queries(result, before)
    result = result.model_copy(update={"edit": edit, "prompts": prompts})
    if kept is None:
        return result
    notes = (*result.notes, *notes_of(kept, run.plan.model, "the model that the run had made"))
    return result.model_copy(update={"calibration": kept, "notes": notes})


def _beside_given_back(run: RunSetting, target: Output, trained: Trained, kept: CalibrationInfo) -> tuple[str, ...]:
    """The histories beside the model that was given back to; notes on those that are of no use there."""
    forget = (example.id for example in run.read.examples.get("forget", ()))
    change = change_by(run.plan, forget, steps=0, model=trained.model_digest)
    between = replace(change, method="giving back", steps=1, recorded=frozenset())
    return settle_beside(target.partial, between if kept.alpha < 1 else change)


def shown_again(target: Output, manner: Manner) -> RunResult:
    """The result that is there, and word that nothing was run."""
    path = target.folder / RESULT
    found = recorded(target.folder)
    result = found.result if manner.answers else answers_out(path, found.result)
    for note in found.notes:
        manner.progress(f"note: {note}", 0, 0)
    date = result.created.replace("T", " ").removesuffix("+00:00")
    manner.progress(f"already done on {date} UTC: the result of {target.folder} is shown again; nothing was run", 0, 0)
    return result


@contextmanager
def cleared_if_refused(target: Output) -> Iterator[None]:
    """Leave what an error of the run should leave: nothing where the input was wrong, plan and log where it failed."""
    try:
        yield
    except UsageError:
        target.abandon()
        raise
    except RunError as error:
        target.reject(str(error))
        raise
