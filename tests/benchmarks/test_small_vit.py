"""The table of docs/prompts.md is made of its rows, and forgetting is what the field calls so."""

from __future__ import annotations

from pathlib import Path

import pytest

from small_vit import TASKS, read, summary, table

DOCS = Path(__file__).parents[2] / "docs"


def test_the_table_is_made_of_its_rows() -> None:
    shown = "\n".join(table(read(DOCS / "results" / "prompts.jsonl")))
    assert shown in (DOCS / "prompts.md").read_text(encoding="utf-8")


def test_means_and_forgetting_by_hand() -> None:
    """All of a task right when it is learned, half of it later."""
    rows = []
    for task in range(len(TASKS)):
        right = {str(c): 1.0 if number == task else 0.5 for number in range(task + 1) for c in TASKS[number]}
        rows.append({"seed": 0, "method": "l2p", "task": task, "seconds": 1, "right": right})
    ((mean, last, lost),) = summary(rows, "l2p")
    assert mean == pytest.approx(100 * (1 + 0.75 + 2 / 3 + 0.625 + 0.6) / 5)
    assert (last, lost) == (pytest.approx(60.0), pytest.approx(50.0))
    assert summary(rows[:-1], "l2p") == []
