"""What a calibration kept and what it brought back, in words: the same for the terminal and the page."""

from __future__ import annotations

from palimpsest.report.calibration_row import CalibrationInfo
from palimpsest.report.numbers import percent, show_or_dash
from palimpsest.report.schema import RunResult

LEAST_SHOWN = 0.005  # below it two decimals show nothing
_COLUMNS = ("before", "raw", "after")


def given_back(result: RunResult) -> tuple[str, ...]:
    """Sentences: the share of the change that stayed, how it was found, what came back of what was forgotten."""
    info = result.calibration
    if info is None:
        return ()
    return (_kept(info), _found(info), *(s for s in (_held(result, info), _forgetting(result, info)) if s))


def _kept(info: CalibrationInfo) -> str:
    if not info.alpha:
        return (
            f"Nothing of the change can stay: already {show_or_dash(info.tolerance)} of it leaves less than "
            f"{percent(info.tau)} of {info.set} {info.metric} before. The model is the one before, and has forgotten "
            "nothing; ask for a smaller share, or unlearn with more of what must stay."
        )
    share = "All" if info.alpha == 1 else f"{show_or_dash(info.alpha, 3)}"
    return (
        f"{share} of the change stays, the most that keeps {percent(info.tau)} of {info.set} {info.metric} before "
        f"({show_or_dash(info.points[0][1])}; bound {show_or_dash(info.bound)})."
    )


def _found(info: CalibrationInfo) -> str:
    asked = ", ".join(f"{show_or_dash(alpha, 3)}: {show_or_dash(value)}" for alpha, value in info.points)
    if info.evaluations == 1:  # two points are no curve
        return f"One evaluation. Asked: {asked}."
    curve = "falls evenly" if info.even else f"does not fall evenly (by {show_or_dash(info.uneven)})"
    return f"{info.evaluations} evaluations; with the share of the change it {curve}. Asked: {asked}."


def _held(result: RunResult, info: CalibrationInfo) -> str:
    values = _values(result, info.set, info.metric)
    return f"Kept: {info.set} {info.metric} {_said(values)}." if values else ""


def _forgetting(result: RunResult, info: CalibrationInfo) -> str:
    """What forgetting it cost, in the metric that was kept, on what was to be forgotten."""
    values = _values(result, "forget", info.metric)
    if not values:
        return ""
    return f"What it cost: forget {info.metric} {_said(values)}; {_came_back(values)}."


def _came_back(values: dict[str, float]) -> str:
    """How far the forget set went back to where it was before."""
    back, away = values["after"] - values["raw"], values["before"] - values["raw"]
    if abs(back) < LEAST_SHOWN:
        return "nothing of it came back"
    return f"{show_or_dash(abs(back))} {'came back toward before' if back * away > 0 else 'further away'}"


def _values(result: RunResult, name: str, metric: str) -> dict[str, float]:
    """Column -> value; empty unless all three are there."""
    rows = {c: result.scores.get(c, {}).get(name, {}).get(metric) for c in _COLUMNS}  # type: ignore[call-overload]
    found = {column: row.value for column, row in rows.items() if row is not None and row.value is not None}
    return found if len(found) == len(_COLUMNS) else {}


def _said(values: dict[str, float]) -> str:
    words = {"before": "before", "raw": "as the change left it", "after": "with what was given back"}
    return ", ".join(f"{show_or_dash(values[column])} {words[column]}" for column in _COLUMNS)
