"""One row of ``benchmarks/language.py --attacks``: what is forgotten, what stays, and what comes back by relearning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from language_bench.runs import Cell, measured, relearned, told

LONG = 20  # passes of the longer attack
KNOWN = ("es", "ma", "prob")


def attacked(cell: Cell) -> dict[str, Any]:
    """The numbers of a row; ``refused`` says why there are none."""
    return told(cell, _looked_at)


def _looked_at(cell: Cell, version: Path, learned: Path) -> dict[str, Any]:
    files = cell.place.files
    return {
        **{f"forget {key}": value for key, value in measured(version, files["forget"], *KNOWN).items()},
        "retain es": measured(version, files["retain"], "es")["es"],
        "general ppl": measured(version, files["general"], "ppl")["ppl"],
        **relearned(cell, version, *KNOWN),
        **relearned(cell, version, *KNOWN, passes=LONG),
    }
