"""What a finished run's record says, held against the folder it lies in and against itself. No torch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from palimpsest.engine.output import PLAN, RESULT
from palimpsest.engine.plan_record import made_by, plan_digest, recorded_digest
from palimpsest.engine.verdict import judged
from palimpsest.errors import DataError, UsageError, reachable
from palimpsest.models.bound import check_bound, expect, unbound
from palimpsest.models.plain import read_json_object
from palimpsest.models.sources import source_digest
from palimpsest.report.page import without_answers
from palimpsest.report.schema import NOT_JUDGED, RunResult

"""Kinds of records without a verdict."""


class Recorded(NamedTuple):
    """A run's record as it may be shown.

    Attributes:
        result: with the verdict that follows from its scores.
        notes: what whoever reads it should know of the record.
    """

    result: RunResult
    notes: tuple[str, ...] = ()


def recorded(place: str | Path) -> Recorded:
    """The record of a run, as far as it can be believed.

    Args:
        place: folder of the run, or its result.json.

    Raises:
        DataError: there is none, or it contradicts itself or the folder.
        ModelError: the folder is not as its run left it.
    """
    path = Path(reachable(place, "run"))
    folder = path if path.is_dir() else path.parent
    inside = path.is_dir() or path.name == RESULT
    if inside:
        check_bound(folder, "run")
    result = RunResult.of_run(path)
    if inside and (problem := next(contradictions(folder, result), None)) is not None:
        raise DataError(f"run {folder}: {problem}; palimpsest verify {folder} says what can be done")
    shown = derived(result)
    note = unbound(folder) if inside else None
    return shown if note is None else shown._replace(notes=(*shown.notes, note))


def contradictions(folder: Path, result: RunResult) -> Iterator[str]:
    """What of a run's plan, record and weights does not fit together.

    Args:
        folder: of the run.
        result: its record.
    """
    plan = read_json_object(folder / PLAN)
    said, found, by = plan.get("digest"), recorded_digest(plan), made_by(plan)
    if by is not None and said != found:
        yield f"{PLAN} has another digest than the one that is written into it"
    if plan and result.plan_digest not in (said, found):
        yield f"{RESULT} is of another plan than {PLAN}"
    elif by is not None and plan_digest(result.plan, by) != result.plan_digest:
        yield f"the plan in {RESULT} has another digest than the one that is written beside it"
    if result.model_digest and result.model_digest != _digest_in(folder):
        yield f"the model is not the one that {RESULT} was written for"


def derived(result: RunResult) -> Recorded:
    """A record with the verdict that its scores give; the one that is written into it is not believed."""
    if result.kind in NOT_JUDGED:
        return Recorded(result.model_copy(update={"verdict": None, "advice": ()}))
    try:
        now = judged(result)
    except UsageError as error:
        bare = result.model_copy(update={"verdict": None, "advice": ()})
        return Recorded(bare, () if result.verdict is None else (f"no verdict is shown: {error}",))
    if result.verdict is None or now.verdict == result.verdict:
        return Recorded(now)
    then, said = result.verdict.outcome, "none" if now.verdict is None else str(now.verdict.outcome)
    return Recorded(
        now, (f"the verdict written into {RESULT} is {then!s}; by its scores it is {said}",) * (then != said)
    )


def answers_out(path: Path, result: RunResult) -> RunResult:
    """Take what the models said out of a run's record, and out of the page beside it.

    Args:
        path: the result.json.
        result: what is shown of it.
    """
    if result.answers:
        bare = RunResult.load(path).model_copy(update={"answers": ()})
        expect(path.parent, path.name, bare.model_dump_json(indent=1) + "\n")
        without_answers(path)
    return result.model_copy(update={"answers": ()})


def _digest_in(folder: Path) -> str | None:
    try:
        return source_digest(folder)
    except UsageError:
        return None
