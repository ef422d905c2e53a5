"""What a calibration says of itself."""

import pytest

from palimpsest.report.calibration_row import CalibrationInfo
from palimpsest.report.given_back import given_back
from palimpsest.report.schema import RunResult

HALVED = [(0.0, 1.0), (0.5, 0.96), (1.0, 0.5)]


@pytest.mark.parametrize(
    ("points", "evaluations", "said"),
    [
        ([(0.0, 0.8), (1.0, 0.9)], 1, "One evaluation. Asked: 0.000: 0.80, 1.000: 0.90."),
        (HALVED, 2, "2 evaluations; with the share of the change it falls evenly. Asked: "),
    ],
)
def test_two_points_are_no_curve(
    result: RunResult, points: list[tuple[float, float]], evaluations: int, said: str
) -> None:
    info = CalibrationInfo(
        set="retain", metric="es", tau=0.95, tolerance=0.015625, alpha=1.0, bound=0.76, points=tuple(points),
        uneven=0.0, even=True, evaluations=evaluations,
    )  # fmt: skip
    assert given_back(result.model_copy(update={"calibration": info}))[1].startswith(said)
