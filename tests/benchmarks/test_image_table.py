"""The table of the image unlearners: gaps by hand, failed rows, and a line that is there is not made again."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from image_table import add, gap_of, rows_of


def line(row: str, seed: int = 0, **values: Any) -> dict[str, Any]:
    scores = {"UA": 10.0, "RA": 100.0, "TA": 90.0, "MIA": 50.0, "seconds": 3.0}
    return {"world": "mnist", "seed": seed, "scenario": "random", "row": row, **scores, **values}


def test_the_gap_by_hand_is_of_the_oracle_of_the_same_seed() -> None:
    """|4 − 10|, |98 − 100|, |90 − 90|, |54 − 50|: 12 / 4."""
    lines = [line("oracle"), line("oracle", seed=1, UA=90.0), line("salun", UA=4.0, RA=98.0, MIA=54.0)]
    assert gap_of(lines[2], lines) == pytest.approx(3.0)
    assert gap_of(line("salun", seed=7), lines) is None


def test_rows_are_ordered_by_the_gap_and_failed_ones_say_why() -> None:
    broken = {key: value for key, value in line("worse").items() if key in ("world", "seed", "scenario")}
    lines = [line("far", UA=50.0), line("near", UA=11.0), line("oracle"), {**broken, "row": "broken", "failed": "why"}]
    rows = [text.split(" | ")[0] for text in rows_of(lines).splitlines() if text.startswith("| ")]
    assert rows == ["| row", "| oracle", "| near", "| far", "| broken"]
    assert "| broken | why |" in rows_of(lines)


def test_a_line_that_is_there_is_not_made_again(tmp_path) -> None:
    made = []

    def measured(scenario: str, row: str) -> dict[str, float]:
        made.append(row)
        return {"UA": 1.0}

    bench = SimpleNamespace(name="mnist", seed=0, measured=measured)
    for _ in range(2):
        add(tmp_path / "rows.jsonl", bench, "class", "ssd")  # type: ignore[arg-type]
    assert made == ["ssd"]
    assert json.loads((tmp_path / "rows.jsonl").read_text())["UA"] == 1.0
