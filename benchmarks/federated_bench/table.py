"""The page of ``benchmarks/federated.py``: means over seeds, one line per eraser, a table per task."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

Rows = Sequence[Mapping[str, Any]]
START, END = "<!-- tables: begin -->", "<!-- tables: end -->"
Columns = Mapping[str, Callable[[Rows, Rows], str]]


def rows_of(file: Path) -> list[dict[str, Any]]:
    """The lines of a result; none where there is no file yet."""
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.is_file() else []


def mean(rows: Rows, key: str, digits: int = 3) -> str:
    """Mean over the seeds that have a number."""
    values = [row[key] for row in rows if row.get(key) is not None]
    return f"{statistics.fmean(values):,.{digits}f}" if values else "–"


def spread(rows: Rows, key: str, digits: int = 3) -> str:
    """Mean, and least and most over seeds."""
    values = [row[key] for row in rows if row.get(key) is not None]
    if len(values) < 2:
        return mean(rows, key, digits)
    return f"{mean(rows, key, digits)} ({min(values):.{digits}f}–{max(values):.{digits}f})"


def part_of(rows: Rows, oracle: Rows, key: str) -> str:
    """Share of the oracle's, of the sums over seeds."""
    own, whole = (sum(row[key] for row in some) for some in (rows, oracle))
    return f"{own / whole:.2f}" if whole else "–"


def same(rows: Rows) -> str:
    """Were all seeds the bits of a federation that the client never was in?"""
    said = [row["same bits as never there"] for row in rows if "same bits as never there" in row]
    return "–" if not said else "yes" if all(said) else "no"


COLUMNS: Mapping[str, tuple[str, str, Columns]] = {
    "digits": (
        "A client with a backdoor, digits",
        "retrain_others",
        {
            "clean accuracy": lambda rows, oracle: spread(rows, "clean"),
            "backdoor": lambda rows, oracle: spread(rows, "backdoor"),
            "CPU seconds": lambda rows, oracle: mean(rows, "seconds", 2),
            "of retraining": lambda rows, oracle: part_of(rows, oracle, "seconds"),
            "answers": lambda rows, oracle: mean(rows, "answers", 0),
            "distance to retraining": lambda rows, oracle: mean(rows, "distance", 1),
            "bits of never there": lambda rows, oracle: same(rows),
        },
    ),
    "people": (
        "A client of three, people of knowundo-privacy",
        "retrain_others",
        {
            "forget ES": lambda rows, oracle: spread(rows, "forget es", 2),
            "retain ES": lambda rows, oracle: spread(rows, "retain es", 2),
            "CPU seconds": lambda rows, oracle: mean(rows, "seconds", 0),
            "of retraining": lambda rows, oracle: part_of(rows, oracle, "seconds"),
            "answers": lambda rows, oracle: mean(rows, "answers", 0),
            "distance to retraining": lambda rows, oracle: mean(rows, "distance", 1),
            "bits of never there": lambda rows, oracle: same(rows),
        },
    ),
}


def page(rows: Rows, markdown: Path | None) -> str:
    """The tables; or a page with the tables between its marks."""
    tables = "\n\n".join(table(task, rows) for task in COLUMNS if any(row["task"] == task for row in rows))
    if markdown is None:
        return tables
    text = markdown.read_text(encoding="utf-8")
    head, tail = text[: text.index(START)], text[text.index(END) :]
    return f"{head}{START}\n{tables}\n{tail}"


def table(task: str, rows: Rows) -> str:
    """One task, a line per eraser, in the order of the file."""
    title, yardstick, columns = COLUMNS[task]
    of_task = [row for row in rows if row["task"] == task]
    seeds = sorted({row["seed"] for row in of_task})
    oracle = [row for row in of_task if row["eraser"] == yardstick]
    lines = [f"## {title}, seeds {', '.join(map(str, seeds))}", "", line(["", *columns])]
    lines.append("|---" * (len(columns) + 1) + "|")
    for name in dict.fromkeys(row["eraser"] for row in of_task):
        own = [row for row in of_task if row["eraser"] == name]
        lines.append(line([name, *(show(own, oracle) for show in columns.values())]))
    return "\n".join(lines)


def line(cells: Sequence[str]) -> str:
    """A line of a table."""
    return "| " + " | ".join(cells) + " |"
