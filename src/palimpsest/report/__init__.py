"""A run as one HTML page, its JSON twin and a table for the terminal. Nothing here reaches torch."""

from palimpsest.report.page import render, save_html
from palimpsest.report.schema import (
    CostRow,
    CurvePoint,
    GateRow,
    RunResult,
    ScoreRow,
    SetInfo,
    VerdictRow,
    rows_of,
)
from palimpsest.report.text import table

__all__ = [
    "CostRow",
    "CurvePoint",
    "GateRow",
    "RunResult",
    "ScoreRow",
    "SetInfo",
    "VerdictRow",
    "render",
    "rows_of",
    "save_html",
    "table",
]
