"""A request once more, at one retention: how much of the change can stay, kept by the digest of its plan."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from palimpsest.bench.perform.cache import locked
from palimpsest.bench.perform.request_cell import RequestCell
from palimpsest.bench.results import MIXED, MixedStep, RowStep
from palimpsest.engine.calibrating import execute_calibration
from palimpsest.engine.calibration_plan import CalibrationPlan
from palimpsest.engine.given import Manner
from palimpsest.engine.inputs import Read
from palimpsest.errors import DataError
from palimpsest.models.load import source_digest
from palimpsest.models.sources import family_of

TAU, ROWS_ASKED_OF = 0.95, 400  # of Wang et al. 2024
RowsOfSteps = Mapping[str, Mapping[int, tuple[RowStep, ...]]]


def mixed_step(cell: RequestCell, since: Path, after: Path, oracle: Path) -> MixedStep | None:
    """Calibrate what a row did to forget, and measure that; None where there is nothing to keep a share of.

    Args:
        cell: request and seed.
        since: the model before the run that forgets.
        after: the model after it.
        oracle: folder of the oracle.
    """
    memory = frozenset(cell.situation.memory)
    remaining = cell.situation.remaining
    unseen = tuple(i for i in remaining if i not in memory)  # by the run that forgets
    examples = {"retain": list(cell.pool.examples(unseen or remaining))}
    digests = {"retain": cell.pool.digest(unseen or remaining)}
    plan = CalibrationPlan(
        model=str(since),
        after=str(after),
        files={},
        metric=family_of(cell.bench.model).judging.gated[0],
        tau=TAU,
        tolerance=1 / 64,
        limit=ROWS_ASKED_OF,
        seed=cell.seed,
        encoding=cell.bench.encoding,
        digests={**digests, "model": source_digest(since), "after": source_digest(after)},
    )
    folder = cell.output / "calibrated" / plan.digest()
    try:
        with locked(folder):
            found = execute_calibration(plan, Read(examples), Manner(output=folder)).calibration
    except DataError:  # the model before knows nothing of what remains
        return None
    if found is None:
        return None
    return MixedStep(
        model=str(folder),
        weights=source_digest(folder),
        alpha=found.alpha,
        uneven=found.uneven,
        evaluations=found.evaluations,
        reading=cell.read(folder, oracle),
    )


def with_mixed(rows: RowsOfSteps) -> dict[str, dict[int, tuple[RowStep, ...]]]:
    """The rows, and behind each that was calibrated the same one with what it says then.

    Args:
        rows: row -> seed -> steps.
    """
    found: dict[str, dict[int, tuple[RowStep, ...]]] = {}
    for label, seeds in rows.items():
        found[label] = dict(seeds)
        if any(step.calibrated is not None for steps in seeds.values() for step in steps):
            found[label + MIXED] = {seed: tuple(map(_as_mixed, steps)) for seed, steps in seeds.items()}
    return found


def _as_mixed(step: RowStep) -> RowStep:
    if step.calibrated is None:
        return step
    mixed = step.calibrated
    return step.model_copy(update={name: getattr(mixed, name) for name in ("model", "weights", "reading")})
