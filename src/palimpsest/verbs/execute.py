"""One run from plan to report: read, check, measure before, train, measure after, judge, write."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path

from palimpsest import methods
from palimpsest.data.batch import TextSet
from palimpsest.durable import flush_tree
from palimpsest.errors import PlanError, RunError, UsageError
from palimpsest.loop.job import Ended
from palimpsest.loop.log import RunLog
from palimpsest.models.load import Loaded, device, load, source_digest, use_threads
from palimpsest.records import Example
from palimpsest.report.page import save_html
from palimpsest.report.schema import CostRow, CurvePoint, Origin, RunResult, SetInfo, VerdictRow, rows_of
from palimpsest.verbs.inputs import check_needs, digests, encode_sets, read_sets, unwatched
from palimpsest.verbs.learned import check_learned, learned_after, write_learned
from palimpsest.verbs.levels import level_info, level_scores
from palimpsest.verbs.measuring import measure_sets
from palimpsest.verbs.oracle_cost import oracle_cost
from palimpsest.verbs.origin import check_base, check_oracle, check_weights
from palimpsest.verbs.output import RESULT, Measured, Output
from palimpsest.verbs.plan import Plan
from palimpsest.verbs.progress import Progress
from palimpsest.verbs.train import Trained, train
from palimpsest.verbs.unfinished import told_how_far
from palimpsest.verbs.verdict import reach_verdict


def execute(
    plan: Plan,
    output: str | Path,
    *,
    progress: Progress,
    threads: int | None = None,
    trackers: tuple[str, ...] = (),
    ignore_columns: frozenset[str] = frozenset(),
) -> RunResult:
    """Run a plan into an output folder; the same call again goes on where a dead one stopped.

    Args:
        plan: what to do.
        output: folder that will hold the model, ``result.json`` and ``report.html``; must not exist.
        progress: told every stage.
        threads: CPU threads; None = one for a small model.
        trackers: names for ``--report-to``.
        ignore_columns: columns of the data files to leave out.

    Returns:
        The result, as written to ``result.json``.

    Raises:
        UsageError: something supplied cannot be used; nothing was written.
        RunError: the run could not end as planned; the partial folder is left for a look.
        Interrupted: Ctrl-C or SIGTERM stopped it; the partial folder holds all that was done.
    """
    check_needs(plan)
    examples = read_sets(plan.files, ignore_columns=ignore_columns)
    plan = plan.model_copy(update={"digests": {**digests(examples), **model_digests(plan)}})
    origin = check_oracle(plan, examples.get("forget", []))
    if methods.load(plan.method).starts_from == "base":
        check_base(plan, examples.get("forget", []))
    target = Output(output)
    if target.finished(plan):
        return _shown_again(target, progress)
    if (note := unwatched(plan)) is not None:
        progress(f"note: {note}", 0, 0)
    if "forget" in examples:
        check_learned(examples["forget"], plan.model)
    before = load(plan.model, revision=plan.revision)
    used_threads = use_threads(before.model, threads)
    before.model.to(device())
    sets = encode_sets(examples, before, plan.encoding)
    if plan.oracle is not None:
        check_weights(before, _like(before, "oracle", plan.oracle, plan), plan)
    target.begin(plan)
    with told_how_far(target.partial), target.held():
        if target.folder.exists() and target.finished(plan):  # by another process, while this one loaded its models
            target.abandon()
            return _shown_again(target, progress)
        with _cleared_if_refused(target):
            result = _run_in(
                target,
                plan,
                before,
                sets,
                origin=origin,
                progress=progress,
                threads=used_threads,
                trackers=list(trackers),
            )
        if result.level is not None:
            target.describe({"level": result.level.model_dump(mode="json")})
        _write(target.partial, result, _learned(plan, examples))
        target.complete()
    return result


def _shown_again(target: Output, progress: Progress) -> RunResult:
    """The result that is there, and word that nothing was run."""
    result = RunResult.load(target.folder / RESULT)
    date = result.created.replace("T", " ").removesuffix("+00:00")
    progress(f"already done on {date} UTC: the result of {target.folder} is shown again; nothing was run", 0, 0)
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


def _run_in(
    target: Output,
    plan: Plan,
    before: Loaded,
    sets: Mapping[str, TextSet],
    *,
    origin: Origin | None,
    progress: Progress,
    threads: int,
    trackers: list[str],
) -> RunResult:
    """Everything that trains and measures."""
    folder = target.partial
    columns = {"before": target.remember("before", lambda: _measure(plan, before, sets, "before", progress))}
    trained, saved = train(plan, _starting(plan, before), sets, folder, progress=progress, trackers=trackers)
    columns["after"] = target.remember("after", partial(_measure, plan, saved, sets, "after", progress))
    del saved  # one model less while the oracle is measured
    if plan.oracle is not None:
        oracle = plan.oracle
        columns["oracle"] = target.remember("oracle", lambda: _measure_folder(plan, oracle, sets, "oracle", progress))
    return _result(plan, columns, trained, folder, sets, threads=threads, origin=origin, modality=before.modality)


def _write(folder: Path, result: RunResult, learned: frozenset[str] | None) -> None:
    """What lies beside the model. ``result.json`` comes last: where it is, everything else is whole and on the disk."""
    save_html(result, folder / "report.html")
    write_learned(folder, learned)
    flush_tree(folder)
    result.save_json(folder / RESULT)


def model_digests(plan: Plan) -> dict[str, str]:
    """Digest of each model's weights; a Hub name stands for itself with its revision."""
    sources = {role: getattr(plan, role) for role in ("model", "base", "oracle")}
    return {role: source_digest(source, plan.revision) for role, source in sources.items() if source is not None}


def _measure(plan: Plan, loaded: Loaded, sets: Mapping[str, TextSet], column: str, progress: Progress) -> Measured:
    return measure_sets(loaded, sets, plan.measuring, seed=plan.training.seed, column=column, progress=progress)


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


def _result(
    plan: Plan,
    columns: Mapping[str, Measured],
    trained: Trained,
    folder: Path,
    sets: Mapping[str, TextSet],
    *,
    threads: int,
    origin: Origin | None,
    modality: str,
) -> RunResult:
    scores = {column: measured[0] for column, measured in columns.items()}
    ended, level = trained.ended, trained.level
    if level is not None and plan.oracle is None:
        scores["level"] = level_scores(level, scores["before"]["forget"])
    doubts = [level.doubt] if level is not None and level.doubt and plan.oracle is None else []
    curve = tuple(_curve(folder))
    sizes = {name: len(examples) for name, examples in sets.items()}
    verdict, advice = reach_verdict(plan, scores, sizes, ended, modality=modality, origin=origin, doubts=doubts)
    costs = {column: CostRow.of(measured[1]) for column, measured in columns.items()}
    costs |= {"preparing": CostRow.of(trained.preparing), "training": CostRow.of(trained.training)}
    costs |= {name: CostRow.of(cost) for name, cost in trained.parts.items()}
    return RunResult(
        kind=plan.kind,
        method=plan.method,
        plan=plan.model_dump(mode="json"),
        plan_digest=plan.digest(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        sets={name: SetInfo(n=len(examples), digest=plan.digests[name]) for name, examples in sets.items()},
        scores=rows_of(scores),  # type: ignore[arg-type]
        oracle_origin=origin,
        verdict=None if verdict is None else VerdictRow.of(verdict),
        advice=advice,
        level=None if level is None else level_info(level, curve, scores["before"]["forget"]),
        curve=curve,
        stopped=ended.stopped,
        cost={**costs, **oracle_cost(plan)},
        environment=environment(threads),
        notes=tuple(_notes(plan, ended, trained.stats)),
    )


def _curve(folder: Path) -> list[CurvePoint]:
    points = []
    for row in RunLog(folder / "metrics.jsonl").rows():
        if row["kind"] != "check":
            continue
        values = {key: value for key, value in row.items() if "." in key}
        point = {key: row[key] for key in ("step", "epoch", "seconds", "active")}
        points.append(CurvePoint(values=values, **point))
    return points


def _notes(plan: Plan, ended: Ended, stats: Mapping[str, float]) -> list[str]:
    notes = [f"Checks took {ended.check_seconds:.1f} s of the {ended.seconds:.1f} s of training."]
    if stats:
        notes.append(f"Pairs: {json.dumps({key: round(value, 4) for key, value in stats.items()})}.")
    if (note := unwatched(plan)) is not None:
        notes.append(f"{note[:1].upper()}{note[1:]}.")
    if plan.training.max_seconds is not None:
        notes.append("A budget in seconds was set: the run cannot be repeated bit by bit.")
    return notes


def environment(threads: int) -> dict[str, str]:
    """Versions and machine, for bug reports and results."""
    packages = ("palimpsest-ml", "torch", "transformers", "accelerate", "peft", "safetensors", "numpy")
    return {
        **{name: version(name) for name in packages},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": str(device()),
        "threads": str(threads),
        "timezone": time.tzname[0],
    }
