"""Was something lost? What a missed bound says of the run, by the values before and after.

A bound that did not hold before is no loss, however it was missed; nor is one that was missed by knowing more.
"""

from __future__ import annotations

from enum import StrEnum

from palimpsest.audit.gates import Gate
from palimpsest.records import Score


class Since(StrEnum):
    """What a missed bound says about the run."""

    UNKNOWN = "what was before was not measured"
    LOST = "the bound held before, and less is known now"
    NEVER = "the bound did not hold before either"
    OTHER = "the bound held before, and no less is known now"


def since_before(gate: Gate, before: Score | None, reference: Score | None, *, less_known: bool) -> Since:
    """Did the bound hold before the run, by the value alone, and is less known than it asks?

    Args:
        gate: whose bound it is.
        before: score of its set before the run.
        reference: what the gate compares with.
        less_known: the score after the run is on the side of the bound where less is known.
    """
    value = None if before is None else before.value
    held = None if value is None else _held_by(gate, value, None if reference is None else reference.value)
    if not held:
        return Since.UNKNOWN if held is None else Since.NEVER
    return Since.LOST if less_known else Since.OTHER


def _held_by(gate: Gate, value: float, reference: float | None) -> bool | None:
    """Is a value on the good side of a bound? None where there is nothing to compare it with."""
    low, high = gate.low_high
    if gate.relative_to is None:
        return low <= value <= high
    if reference is None or (gate.mode == "ratio" and reference == 0):
        return None
    return low <= (value / reference if gate.mode == "ratio" else value - reference) <= high
