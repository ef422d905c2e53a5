"""The page of ``benchmarks/language.py``: means over seeds, one line per method, a table per world."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

Rows = Sequence[Mapping[str, Any]]
WORLDS = {"people": "People of knowundo-privacy", "tofu": "Authors of TOFU"}
MIB = 2**20
Columns = Mapping[str, Callable[[Rows], str]]
COLUMNS: Columns = {
    "forget ES": lambda rows: spread(rows, "forget es"),
    "MA": lambda rows: mean(rows, "forget ma"),
    "prob": lambda rows: mean(rows, "forget prob"),
    "paraphrase ES": lambda rows: mean(rows, "paraphrase es"),
    "retain ES": lambda rows: mean(rows, "retain es"),
    "general ppl": lambda rows: mean(rows, "general ppl", 1),
    "relearned ES": lambda rows: mean(rows, "relearned es"),
    "alpha": lambda rows: mean(rows, "alpha"),
    "calibrated forget ES": lambda rows: mean(rows, "calibrated forget es"),
    "seconds": lambda rows: mean(rows, "seconds", 0),
    "positions": lambda rows: mean(rows, "positions", 0),
    "peak MiB": lambda rows: mean(rows, "peak", 0, MIB),
    "kept KiB": lambda rows: mean(rows, "kept", 0, 1024),
}

ATTACKS: Columns = {
    "forget ES": lambda rows: spread(rows, "forget es"),
    "prob": lambda rows: mean(rows, "forget prob"),
    "retain ES": lambda rows: mean(rows, "retain es"),
    "general ppl": lambda rows: mean(rows, "general ppl", 1),
    "ES after 5 passes": lambda rows: spread(rows, "relearned es"),
    "MA after 5": lambda rows: mean(rows, "relearned ma"),
    "prob after 5": lambda rows: mean(rows, "relearned prob"),
    "ES after 20": lambda rows: spread(rows, "relearned x20 es"),
    "MA after 20": lambda rows: mean(rows, "relearned x20 ma"),
    "prob after 20": lambda rows: mean(rows, "relearned x20 prob"),
    "positions": lambda rows: mean(rows, "positions", 0),
}


def rows_of(file: Path) -> list[dict[str, Any]]:
    """The lines of a result; none where there is no file yet."""
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.is_file() else []


def mean(rows: Rows, key: str, digits: int = 2, unit: float = 1.0) -> str:
    """Mean over the seeds that have a number."""
    values = [row[key] / unit for row in rows if key in row]
    return f"{statistics.fmean(values):,.{digits}f}" if values else "–"


def spread(rows: Rows, key: str) -> str:
    """Mean, and least and most over seeds."""
    values = [row[key] for row in rows if key in row]
    return f"{mean(rows, key)} ({min(values):.2f}-{max(values):.2f})" if len(values) > 1 else mean(rows, key)


def page(rows: Rows, markdown: Path | None, columns: Columns = COLUMNS) -> str:
    """The tables; or a page with the tables between the marks of these columns."""
    worlds = [world for world in WORLDS if any(row["world"] == world for row in rows)]
    tables = "\n\n".join(table(world, rows, columns) for world in worlds)
    if markdown is None:
        return tables
    text, mark = markdown.read_text(encoding="utf-8"), "attacks" if columns is ATTACKS else "tables"
    start, end = f"<!-- {mark}: begin -->", f"<!-- {mark}: end -->"
    return f"{text[: text.index(start)]}{start}\n{tables}\n{text[text.index(end) :]}"


def table(world: str, rows: Rows, columns: Columns = COLUMNS) -> str:
    """One world, a line per method, in the order of the file; and what was refused."""
    of_world = [row for row in rows if row["world"] == world]
    seeds = sorted({row["seed"] for row in of_world})
    lines = [f"## {WORLDS[world]}, seeds {', '.join(map(str, seeds))}", "", line(["", *columns])]
    lines.append("|---" * (len(columns) + 1) + "|")
    for name in dict.fromkeys(row["method"] for row in of_world):
        own = [row for row in of_world if row["method"] == name and "refused" not in row]
        if own:
            lines.append(line([name, *(show(own) for show in columns.values())]))
    return "\n".join([*lines, *refused(of_world)])


def refused(rows: Rows) -> list[str]:
    """Why a method has no row."""
    found = dict.fromkeys((row["method"], row["refused"]) for row in rows if "refused" in row)
    return ["", *(f"* `{name}` has no row: {why}" for name, why in found)] if found else []


def line(cells: Iterable[str]) -> str:
    """A line of a table."""
    return "| " + " | ".join(cells) + " |"
