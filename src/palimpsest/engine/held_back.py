"""Rows by which a run finds how much it can give back: a set of their own, or held out of retain before training.

Source: Wang et al. 2024, arXiv:2406.09179: 400 rows of the retain set are kept for calibration and never trained on.
"""

from __future__ import annotations

from palimpsest import metrics
from palimpsest.audit.calibration import check_settings
from palimpsest.data.draws import shuffled
from palimpsest.data.sets.roles import CALIBRATION
from palimpsest.engine.inputs import Read
from palimpsest.engine.plan import Plan
from palimpsest.engine.sections import Restoring
from palimpsest.errors import PlanError
from palimpsest.metrics.metric import Metric
from palimpsest.models.families import Family
from palimpsest.models.sources import family_of

HELD_OUT = 0.2  # of retain, at most
FEWEST = 50  # rows of retain; below that none can be spared, and those that were trained on are asked


def restoring_metric(restore: Restoring, family: Family) -> Metric:
    """What is kept.

    Raises:
        PlanError: there is no such metric, or it cannot be taken.
    """
    built = metrics.build(restore.metric or family.judging.gated[0], {})
    metrics.refuse_kind([built], family.takes)
    check_settings(restore.share, restore.tolerance, built.direction, built.key)
    return built


def check_restoring(plan: Plan) -> None:
    """Something can be given back, where that is asked for, and rows for it are not given in vain.

    Raises:
        PlanError: says what is missing.
    """
    if plan.restore is None:
        if CALIBRATION in plan.files:
            raise PlanError("--calibration is what utility is given back by; give --restore 0.95, or leave it out")
        return
    if plan.kind == "learn":
        raise PlanError("restore gives back what unlearning took, and nothing is to be forgotten here; leave it out")
    if not {"retain", CALIBRATION} & plan.files.keys():
        raise PlanError("restore needs rows that must stay; give --retain FILE or --calibration FILE")
    if plan.scope.kind == "lora" and not plan.scope.merge:
        raise PlanError(
            "restore saves a plain model, and scope.merge = false keeps the adapter beside its base; have it "
            "merged, or scale it afterwards: palimpsest calibrate"
        )
    restoring_metric(plan.restore, family_of(plan.model, plan.revision))


def num_held_out(rows: int, most: int) -> int:
    """How many of so many rows are held out: a fifth, at most ``most``; none where they are few.

    >>> num_held_out(49, 400), num_held_out(50, 400), num_held_out(5000, 400)
    (0, 10, 400)
    """
    return 0 if rows < FEWEST else min(most, int(HELD_OUT * rows))


def with_calibration(plan: Plan, read: Read) -> Read:
    """The sets with those rows of retain that are held out, drawn by the seed, as a set of their own.

    Args:
        plan: of the run; without restoring, or with a set that was given, nothing is held out.
        read: its sets.
    """
    if plan.restore is None or CALIBRATION in read.examples:
        return read
    retain = read.examples["retain"]
    number = num_held_out(len(retain), plan.restore.rows)
    if not number:
        return read._replace(notes=(*read.notes, _FEW.format(len(retain))))
    ids = [example.id for example in retain]
    held = frozenset(shuffled(ids, plan.training.seed, CALIBRATION, 0)[:number])
    sets = {
        **read.examples,
        "retain": [example for example in retain if example.id not in held],
        CALIBRATION: [example for example in retain if example.id in held],
    }
    note = f"{number} rows of retain, drawn by the seed, were held out to give back by; no step was trained on them."
    return read._replace(examples=sets, notes=(*read.notes, note))


_FEW = (
    "Utility was given back by the {} rows of retain that were trained on: too few to hold any out; --calibration FILE "
    "gives others."
)
