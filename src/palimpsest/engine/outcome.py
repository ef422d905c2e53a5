"""From what a run measured to its result: scores, level, verdict, costs, notes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from palimpsest.data.encode.batch import TextSet
from palimpsest.engine.decoded import decoded_notes
from palimpsest.engine.given import Manner
from palimpsest.engine.head_growth import grown_note
from palimpsest.engine.inputs import Read, unwatched
from palimpsest.engine.levels import level_info, level_scores
from palimpsest.engine.measured_json import Measured
from palimpsest.engine.measuring import MEASURED, measured_by
from palimpsest.engine.oracle_cost import oracle_cost
from palimpsest.engine.plan import Plan
from palimpsest.engine.returning import record_notes
from palimpsest.engine.train import Trained
from palimpsest.engine.verdict import Evidence, doubts_of, gates_of, reach_verdict
from palimpsest.engine.versions import versions
from palimpsest.in_words import show
from palimpsest.loop.job import Ended
from palimpsest.loop.log import RunLog
from palimpsest.models.families import Family
from palimpsest.models.load import device
from palimpsest.records import Answer, is_digest
from palimpsest.report.beside import WHOLE_BASE, is_beside_its_base
from palimpsest.report.curve_point import CurvePoint
from palimpsest.report.schema import (
    AnswerRow,
    CostRow,
    Ending,
    Origin,
    RunResult,
    SetInfo,
    VerdictRow,
    rows_of,
)


@dataclass(frozen=True)
class RunSetting:
    """One run, with all that its steps share.

    Attributes:
        plan: resolved, digests filled in.
        read: the sets as examples.
        sets: the same, encoded for the model.
        manner: how it goes about it.
        origin: of the oracle.
        threads: CPU threads in use.
        family: of the model.
    """

    plan: Plan
    read: Read
    sets: Mapping[str, TextSet]
    manner: Manner
    origin: Origin | None
    threads: int
    family: Family


def result_of(
    run: RunSetting, columns: Mapping[str, Measured], trained: Trained, folder: Path, said: list[Answer]
) -> RunResult:
    """The result of a run that ended.

    Args:
        run: what was run.
        columns: "before", "after", "oracle" -> what was measured.
        trained: how training ended.
        folder: of the run, with its log.
        said: what the models say.
    """
    plan, sets = run.plan, run.sets
    scores = {column: measured[0] for column, measured in columns.items()}
    ended, level = trained.ended, trained.level
    if level is not None and plan.oracle is None:
        scores["level"] = level_scores(level, scores["before"]["forget"])
    curve = tuple(_curve(folder))
    sizes = {name: len(examples) for name, examples in sets.items()}
    ending = Ending(
        steps=ended.steps,
        budget=ended.budget,
        short=ended.short,
        unchanged=ended.short is not None and ended.unchanged is not None,
    )
    evidence = Evidence(plan, scores, sizes, ending, run.family, run.origin, doubts_of(plan, level))
    verdict, advice = reach_verdict(evidence)
    return RunResult(
        kind=plan.kind,
        method=plan.method,
        modality=run.family.takes,
        plan=plan.model_dump(mode="json"),
        plan_digest=plan.digest(),
        model_digest=trained.model_digest,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        sets={name: SetInfo(n=len(examples), digest=plan.digests[name]) for name, examples in sets.items()},
        scores=rows_of(scores),  # type: ignore[arg-type]
        request=run.read.request,
        places=_places(run),
        answers=tuple(map(AnswerRow.of, said)),
        oracle_origin=run.origin,
        gates=gates_of(evidence),
        verdict=None if verdict is None else VerdictRow.of(verdict),
        advice=advice,
        level=None if level is None else level_info(level, curve, scores["before"]["forget"]),
        curve=curve,
        stopped=ended.stopped,
        ending=ending,
        cost={**_costs(columns, trained), **oracle_cost(plan)},
        environment=environment(run.threads),
        notes=(
            *grown_note(plan),
            *run.read.notes,
            *record_notes(plan, run.read.examples),
            *_notes(plan, ended, trained.notes),
            *_decoded(run, sizes),
        ),
    )


def _costs(columns: Mapping[str, Measured], trained: Trained) -> dict[str, CostRow]:
    """What measuring, preparing and training cost."""
    parts = {"preparing": trained.preparing, "training": trained.training, **trained.parts}
    measured = {column: cost for column, (_, cost) in columns.items()}
    return {name: CostRow.of(cost) for name, cost in {**measured, **parts}.items()}


def _places(run: RunSetting) -> dict[str, str]:
    """Where rows stand that a page does not call by their ids: those without a name, and those to forget."""
    rows = ((name, example) for name in MEASURED for example in run.read.examples.get(name, []))
    return {e.id: e.place for name, e in rows if e.place and (name == "forget" or is_digest(e.id))}


def _curve(folder: Path) -> list[CurvePoint]:
    points = []
    for row in RunLog(folder / "metrics.jsonl").rows():
        if row["kind"] != "check":
            continue
        values = {key: value for key, value in row.items() if "." in key}
        point = {key: row[key] for key in ("step", "epoch", "seconds", "active")}
        points.append(CurvePoint(values=values, **point))
    return points


def _notes(plan: Plan, ended: Ended, of_sets: tuple[str, ...]) -> list[str]:
    notes = [f"Checks took {show(ended.check_seconds)} s of the {show(ended.seconds)} s of training.", *of_sets]
    if (note := unwatched(plan)) is not None:
        notes.append(f"{note[:1].upper()}{note[1:]}.")
    if is_beside_its_base(plan.kind, plan.method, plan.scope.model_dump()):
        notes.append(f"{WHOLE_BASE}.")
    if plan.training.max_seconds is not None:
        notes.append("A budget in seconds was set: the run cannot be repeated bit by bit.")
    return notes


def _decoded(run: RunSetting, sizes: Mapping[str, int]) -> list[str]:
    return decoded_notes(run.plan, sizes, measured_by(run.plan.measuring, sizes, run.family))


def environment(threads: int) -> dict[str, str]:
    """Versions and machine, for results."""
    return {**versions(), "device": str(device()), "threads": str(threads)}
