"""What a calibration found, as the record has it: numbers, notes, what the list of learned rows then means."""

from __future__ import annotations

from palimpsest.audit.calibration import SET, UNEVEN, Calibrated
from palimpsest.companions.learned import LEARNED_FILE
from palimpsest.engine.calibration_plan import CalibrationPlan
from palimpsest.in_words import show
from palimpsest.report.calibration_row import CalibrationInfo


def info_of(kept: Calibrated, tolerance: float) -> CalibrationInfo:
    """The row of a calibration."""
    return CalibrationInfo(
        set=SET,
        metric=kept.metric,
        tau=kept.tau,
        tolerance=tolerance,
        alpha=kept.alpha,
        bound=kept.bound,
        points=tuple((point.alpha, point.value) for point in kept.points),
        uneven=kept.uneven,
        even=kept.even,
        evaluations=kept.evaluations,
    )


def notes_of(kept: Calibrated, tolerance: float) -> tuple[str, ...]:
    """What a reader should know of how it was found."""
    if kept.even:
        return ()
    return (
        f"{kept.metric} of {SET} does not fall evenly with alpha (by {show(kept.uneven)}, more than {UNEVEN:g}): a "
        f"share of the change above {show(kept.alpha)} may keep as much; alpha was found to {tolerance:g}.",
    )


def learned_note(plan: CalibrationPlan, kept: Calibrated) -> str:
    """What the list of learned and forgotten rows says of a model that was moved back part of the way."""
    if not kept.alpha:
        return (
            f"Nothing of the change can stay at this share: these are the weights of {plan.model}, and {LEARNED_FILE}, "
            "where there is one, is its."
        )
    if kept.alpha == 1:
        return "The whole change stays: these are the weights of the model after."
    return (
        f"{LEARNED_FILE}, where there is one, is that of {plan.after}: what it was made to forget counts as forgotten, "
        f"though {1 - kept.alpha:.0%} of the way back to {plan.model} was gone, and part of it is known again."
    )
