"""One run from plan to report: read, check, measure before, train, measure after, judge, write."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from palimpsest import methods
from palimpsest.companions.learned import check_learned, learned_after, write_learned
from palimpsest.data.encode.batch import TextSet
from palimpsest.durable import flush_tree
from palimpsest.engine.answering import answered
from palimpsest.engine.inputs import Read, digests, encode_sets, unwatched
from palimpsest.engine.measuring import measure_sets, measured_by
from palimpsest.engine.origin import check_base, check_oracle, check_weights
from palimpsest.engine.outcome import RunSetting, result_of
from palimpsest.engine.output import RESULT, Measured, Output
from palimpsest.engine.plan import Plan
from palimpsest.engine.progress import Progress
from palimpsest.engine.split import write_split
from palimpsest.engine.train import train
from palimpsest.engine.unfinished import told_how_far
from palimpsest.errors import PlanError, RunError, UsageError
from palimpsest.models.load import Loaded, device, load, source_digest, use_threads
from palimpsest.records import Example
from palimpsest.report.page import PAGE, save_html, without_answers
from palimpsest.report.schema import RunResult
from palimpsest.verbs.arguments import Manner
from palimpsest.verbs.decoded import decodes_before


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
    examples = read.examples
    plan = plan.model_copy(update={"request": read.request, "digests": {**digests(examples), **model_digests(plan)}})
    origin = check_oracle(plan, examples.get("forget", []))
    if methods.load(plan.method).starts_from == "base":
        check_base(plan, examples.get("forget", []))
    target = Output(manner.output)
    if target.finished(plan):
        return _shown_again(target, manner)
    if (note := unwatched(plan)) is not None:
        manner.progress(f"note: {note}", 0, 0)
    if "forget" in examples:
        check_learned(examples["forget"], plan.model)
    before = load(plan.model, revision=plan.revision)
    threads = use_threads(before.model, manner.threads)
    before.model.to(device())
    sets = encode_sets(examples, before, plan.encoding)
    if plan.oracle is not None:
        check_weights(before, _like(before, "oracle", plan.oracle, plan), plan)
    run = RunSetting(plan, read, sets, manner, origin, threads, before.modality)
    with told_how_far(target.partial), _begun(target, plan):
        if target.folder.exists() and target.finished(plan):  # by another process, while this one loaded its models
            target.abandon()
            return _shown_again(target, manner)
        with _cleared_if_refused(target):
            result = _run_in(target, run, before)
        if result.level is not None:
            target.describe({"level": result.level.model_dump(mode="json")})
        _write(target.partial, run, result)
        target.complete()
    return result


@contextmanager
def _begun(target: Output, plan: Plan) -> Iterator[None]:
    """A partial folder that is this process's alone."""
    target.begin(plan)
    with target.held():
        yield


def _shown_again(target: Output, manner: Manner) -> RunResult:
    """The result that is there, and word that nothing was run."""
    path = target.folder / RESULT
    result = RunResult.load(path) if manner.answers else without_answers(path)
    date = result.created.replace("T", " ").removesuffix("+00:00")
    manner.progress(f"already done on {date} UTC: the result of {target.folder} is shown again; nothing was run", 0, 0)
    return result


@contextmanager
def _cleared_if_refused(target: Output) -> Iterator[None]:
    """Leave what an error of the run should leave: nothing where the input was wrong, plan and log where it failed."""
    try:
        yield
    except UsageError:
        target.abandon()
        raise
    except RunError as error:
        target.reject(str(error))
        raise


def _learned(plan: Plan, examples: dict[str, list[Example]]) -> frozenset[str] | None:
    from_base = methods.load(plan.method).starts_from == "base" and plan.base is not None
    start = plan.base if from_base and plan.base is not None else plan.model
    return learned_after(start, examples, from_base=from_base)


def _run_in(target: Output, run: RunSetting, before: Loaded) -> RunResult:
    """Everything that trains and measures."""
    plan, sets, folder, progress = run.plan, run.sets, target.partial, run.manner.progress
    columns = {"before": target.remember("before", lambda: _measure(plan, before, sets, "before", progress))}
    trackers = list(run.manner.trackers)
    trained, saved = train(plan, _starting(plan, before), sets, folder, progress=progress, trackers=trackers)
    columns["after"] = target.remember("after", partial(_measure, plan, saved, sets, "after", progress))
    said = answered(run, saved, columns["after"][0])
    del saved  # one model less while the oracle is measured
    if plan.oracle is not None:
        oracle = plan.oracle
        columns["oracle"] = target.remember("oracle", lambda: _measure_folder(plan, oracle, sets, "oracle", progress))
    return result_of(run, columns, trained, folder, said)


def _write(folder: Path, run: RunSetting, result: RunResult) -> None:
    """What lies beside the model. ``result.json`` comes last: where it is, everything else is whole and on the disk."""
    save_html(result, folder / PAGE)
    write_learned(folder, _learned(run.plan, run.read.examples))
    write_split(folder, run.read)
    flush_tree(folder)
    result.save_json(folder / RESULT)


def model_digests(plan: Plan) -> dict[str, str]:
    """Digest of each model's weights; a Hub name stands for itself with its revision."""
    sources = {role: getattr(plan, role) for role in ("model", "base", "oracle")}
    return {role: source_digest(source, plan.revision) for role, source in sources.items() if source is not None}


def _measure(plan: Plan, loaded: Loaded, sets: Mapping[str, TextSet], column: str, progress: Progress) -> Measured:
    how: dict[str, Any] = {"seed": plan.training.seed, "column": column, "progress": progress}
    decodes = column != "before" or decodes_before(plan, measured_by(plan.measuring, sets, loaded.modality))
    return measure_sets(loaded, sets, plan.measuring, decodes=decodes, **how)


def _measure_folder(
    plan: Plan, source: str | Path, sets: Mapping[str, TextSet], column: str, progress: Progress
) -> Measured:
    loaded = load(source, revision=plan.revision)
    loaded.model.to(device())
    return _measure(plan, loaded, sets, column, progress)


def _starting(plan: Plan, before: Loaded) -> Loaded:
    """The model that the run changes: the given one, or the base of a method that starts there."""
    if methods.load(plan.method).starts_from != "base" or plan.base is None:
        return before
    base = _like(before, "base", plan.base, plan)
    base.model.to(device())
    return base


def _like(before: Loaded, role: str, source: str, plan: Plan) -> Loaded:
    """Another model of the plan, with as many outputs."""
    other = load(source, revision=plan.revision)
    if other.num_outputs != before.num_outputs:
        raise PlanError(
            f"--{role} knows {other.num_outputs} tokens or classes and --model {before.num_outputs}; "
            f"give a {role} with the outputs of the model"
        )
    return other
