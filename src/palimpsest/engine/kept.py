"""What a calibration found, as the record has it: numbers, notes, what the list of learned rows then means."""

from __future__ import annotations

from palimpsest.audit.calibration import SET, UNEVEN, Calibrated
from palimpsest.companions.learned import LEARNED_FILE
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


def notes_of(info: CalibrationInfo, before: str, after: str) -> tuple[str, ...]:
    """What a reader should know of how it was found, and of the list of learned and forgotten rows beside the model.

    Args:
        info: what was found.
        before: what the model before is called.
        after: the model after.
    """
    return (*_unevenness(info), _what_the_list_says(info, before, after))


def _unevenness(info: CalibrationInfo) -> tuple[str, ...]:
    if info.even:
        return ()
    return (
        f"{info.metric} of {info.set} does not fall evenly with alpha (by {show(info.uneven)}, more than {UNEVEN:g}): "
        f"a share of the change above {show(info.alpha)} may keep as much; alpha was found to {info.tolerance:g}.",
    )


def _what_the_list_says(info: CalibrationInfo, before: str, after: str) -> str:
    if not info.alpha:
        return (
            f"Nothing of the change can stay at this share: these are the weights of {before}, and {LEARNED_FILE}, "
            "where there is one, is its."
        )
    if info.alpha == 1:
        return f"The whole change stays: these are the weights of {after}."
    return (
        f"{LEARNED_FILE}, where there is one, is that of {after}: what that was made to forget counts as forgotten, "
        f"though {1 - info.alpha:.0%} of the way back to {before} was gone, and part of it is known again."
    )
