"""The stages of a run. Each is called by itself, keeps what it found in the run's folder, and is not done twice.

    open_run -> measure_column("before") -> make_version -> measure_column("after") -> answered
             -> measure_column("oracle") -> result_of -> write_record

``execute`` is all of them. Who needs a version without scores calls ``open_run`` and ``make_version``; who died between
two stages opens the run again and calls the next one: what was measured and trained is read back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from palimpsest import methods
from palimpsest.companions.learned import read_record, write_learned
from palimpsest.durable import flush_tree
from palimpsest.engine.checked_rows import check_looked_at
from palimpsest.engine.counted_rows import check_counted_content
from palimpsest.engine.decoded import decodes_before
from palimpsest.engine.given import Manner
from palimpsest.engine.handing_on import change_by, companions_read, hand_on, left_behind, start_of
from palimpsest.engine.head_growth import grown, grown_note, other_outputs
from palimpsest.engine.inputs import Examples, Read, digests, encode_sets, unwatched
from palimpsest.engine.measured_json import Measured
from palimpsest.engine.measuring import measure_sets, measured_by
from palimpsest.engine.origin import check_base, check_oracle, check_weights
from palimpsest.engine.outcome import RunSetting
from palimpsest.engine.output import RESULT, Output
from palimpsest.engine.plan import Plan
from palimpsest.engine.query_cost import tell_queries
from palimpsest.engine.returning import check_forget, check_returning, record_notes, record_of
from palimpsest.engine.same_words import check_same_words
from palimpsest.engine.sharded.sharded_run import train_shards
from palimpsest.engine.split import write_split
from palimpsest.engine.train import Trained, train
from palimpsest.engine.varying import sentence_notes, with_forms
from palimpsest.errors import PlanError
from palimpsest.models.bound import unbound
from palimpsest.models.load import Loaded, device, load, source_digest, use_threads
from palimpsest.report.page import PAGE, save_html
from palimpsest.report.schema import RunResult


def resolved(plan: Plan, read: Read) -> Plan:
    """The plan with the digests of its sets and models, which name the run.

    Raises:
        UsageError: base or oracle cannot be what they are given as.
    """
    plan = plan.model_copy(
        update={"request": read.request, "digests": {**digests(read.examples), **model_digests(plan)}}
    )
    if methods.card(plan.method).starts_from == "base":
        check_base(plan, read.examples.get("forget", []))
    read_too = {f"companion/{kind}": companion.digest() for kind, companion in companions_read(plan).items()}
    return plan.model_copy(update={"digests": {**plan.digests, **read_too}})


def model_digests(plan: Plan) -> dict[str, str]:
    """Digest of each model's weights; a Hub name stands for itself with its revision."""
    sources = {role: getattr(plan, role) for role in ("model", "base", "oracle")}
    return {role: source_digest(source, plan.revision) for role, source in sources.items() if source is not None}


def open_run(plan: Plan, read: Read, manner: Manner) -> tuple[RunSetting, Loaded]:
    """Load the model, encode the sets, and check that they fit each other.

    Args:
        plan: resolved.
        read: its sets.
        manner: how the run goes about it.

    Returns:
        The run, and the model before it, on its device.

    Raises:
        UsageError: they do not fit; nothing was written.
    """
    forget = read.examples.get("forget", [])
    origin = check_oracle(plan, forget)
    if (note := unwatched(plan)) is not None:
        manner.progress(f"note: {note}", 0, 0)
    for note in (*left_behind(plan), *record_notes(plan, read.examples), *grown_note(plan)):
        manner.progress(f"note: {note}", 0, 0)
    check_forget(plan, forget)
    check_returning(plan, read.examples)
    for source in dict.fromkeys((plan.model, plan.base, plan.oracle)):
        if source is not None and (note := unbound(source)) is not None:
            manner.progress(f"note: {note}", 0, 0)
    before = grown(load(plan.model, revision=plan.revision), plan)
    threads = use_threads(before.model, manner.threads)
    before.model.to(device())
    _check_fits(plan, before, _subjects(read))
    sets = encode_sets(read.examples, before, plan.encoding)
    check_counted_content(plan, sets)
    if plan.oracle is not None:
        check_weights(before, _like(before, "oracle", plan.oracle, plan, read.examples), plan)
    check_looked_at(plan, before, sets)
    tell_queries(plan, sets, before, manner.progress)
    return RunSetting(plan, read, sets, manner, origin, threads, before.family), before


def _subjects(read: Read) -> dict[str, str]:
    """Id -> subject, of the rows that have one."""
    rows = (row for examples in read.examples.values() for row in examples)
    return {row.id: row.subject for row in rows if row.subject is not None}


def _check_fits(plan: Plan, before: Loaded, subjects: Mapping[str, str]) -> None:
    """The method can be run on the model; one that starts from the base looks at that by itself."""
    if methods.card(plan.method).starts_from == "model":
        method = methods.load(plan.method)(methods.configure(plan.method, plan.options))
        method.companions, method.subjects = companions_read(plan), subjects
        method.check(before.model)


def measure_column(run: RunSetting, target: Output, column: str, model: Loaded | str | Path) -> Measured:
    """Scores of one model on all sets of a run; remembered in its folder, so that they are taken once.

    Args:
        run: opened.
        target: where it is written.
        column: "before", "after" or "oracle".
        model: on its device, or its folder.
    """

    def compute() -> Measured:
        loaded = model if isinstance(model, Loaded) else grown(load(model, revision=run.plan.revision), run.plan)
        loaded.model.to(device())
        plan = run.plan
        decodes = column != "before" or decodes_before(plan, measured_by(plan.measuring, run.sets, run.family))
        how: dict[str, Any] = {"seed": plan.training.seed, "column": column, "progress": run.manner.progress}
        return measure_sets(loaded, run.sets, plan.measuring, decodes=decodes, **how)

    return target.remember(column, compute)


def make_version(run: RunSetting, target: Output, before: Loaded) -> tuple[Trained, Loaded]:
    """Train, and save the model that comes out; goes on from the run's checkpoint.

    Args:
        run: opened.
        target: where it is written; held.
        before: the model that the run changes, as ``open_run`` gave it.

    Returns:
        How it went, and the saved model, beside which its histories lie. As ``train``, which this calls.
    """
    start = _starting(run, before)
    how: dict[str, Any] = {"progress": run.manner.progress, "trackers": list(run.manner.trackers)}
    subjects = _subjects(run.read)
    if methods.card(run.plan.method).sharded:
        trained, saved = train_shards(run.plan, start, run.sets, target.partial, progress=run.manner.progress)
    else:
        sets = with_forms(run.plan, start, run.sets, run.read.examples)
        trained, saved = train(run.plan, start, sets, target.partial, subjects=subjects, **how)
    forget = run.read.examples.get("forget", [])
    change = change_by(run.plan, (row.id for row in forget), steps=trained.ended.steps, model=trained.model_digest)
    notes = (*sentence_notes(run.plan, run.read.examples), *hand_on(start_of(run.plan), target.partial, change))
    return replace(trained, notes=(*trained.notes, *notes)), saved


def write_record(run: RunSetting, target: Output, result: RunResult) -> None:
    """Write what lies beside the model. ``result.json`` comes last: where it is, all else is whole and on the disk.

    Args:
        run: opened.
        target: where it is written; held.
        result: of ``result_of``.
    """
    if result.level is not None:
        target.describe({"level": result.level.model_dump(mode="json")})
    save_html(result, target.partial / PAGE)
    nothing_stayed = result.calibration is not None and not result.calibration.alpha
    record = read_record(run.plan.model) if nothing_stayed else record_of(run.plan, run.read.examples)
    write_learned(target.partial, record)
    write_split(target.partial, run.read)
    flush_tree(target.partial)
    result.save_json(target.partial / RESULT)


def _starting(run: RunSetting, before: Loaded) -> Loaded:
    """The model that the run changes: the given one, or the base of a method that starts there."""
    plan = run.plan
    if methods.card(plan.method).starts_from != "base" or plan.base is None:
        return before
    base = _like(before, "base", plan.base, plan, run.read.examples)
    base.model.to(device())
    return base


def _like(before: Loaded, role: str, source: str, plan: Plan, examples: Examples) -> Loaded:
    """Another model of the plan, with as many outputs, which mean the same."""
    other = grown(load(source, revision=plan.revision), plan)
    if other.num_outputs != before.num_outputs:
        raise PlanError(other_outputs(role, other.num_outputs, before.num_outputs))
    check_same_words(before.tokenizer, other.tokenizer, examples, f"--{role} {source}")
    return other
