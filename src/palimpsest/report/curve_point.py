"""A point of the curves that a run's report draws."""

from __future__ import annotations

from pydantic import Field

from palimpsest.report.row import ReportRow


class CurvePoint(ReportRow):
    """What was measured between two optimizer steps."""

    step: int = Field(ge=0)
    """Optimizer steps done."""
    epoch: float = Field(ge=0)
    """Passes over the anchor set done."""
    seconds: float = Field(ge=0)
    """Wall-clock seconds since the run began."""
    active: int | None = None
    """Examples that still need work, or None where nothing is refined."""
    values: dict[str, float] = Field(default_factory=dict)
    """Quantity -> value; the key "set.metric" (e.g. "forget.el_10") lets the page add unit and oracle level."""
