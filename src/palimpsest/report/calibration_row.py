"""A calibration, as the JSON twin has it."""

from __future__ import annotations

from palimpsest.report.row import ReportRow


class CalibrationInfo(ReportRow):
    """How much of a change stayed; ``audit.calibration.Calibrated``."""

    set: str
    """That was to be kept."""
    metric: str
    """Key of what was to be kept of it."""
    tau: float
    """Share of its value before that had to be kept."""
    tolerance: float
    """The share of the change may be so much too small."""
    alpha: float
    """Share of the change that stayed: 0 = as before, 1 = all of it."""
    bound: float
    """The value that had to be kept."""
    points: tuple[tuple[float, float], ...]
    """Every alpha that was asked with the value there, ascending; the first is the model before."""
    uneven: float
    """Largest step of the value back towards before, with alpha ascending."""
    even: bool
    """Is that within 0.02? Else a larger alpha might have been kept, too."""
    evaluations: int
    """Times the metric was taken, the model before apart."""
