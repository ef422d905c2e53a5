"""What the pages of several benchmarks do alike: rows of a result file, means over seeds, tables between marks."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

Rows = Sequence[Mapping[str, Any]]


def rows_of(file: Path) -> list[dict[str, Any]]:
    """The lines of a result; none where there is no file yet."""
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.is_file() else []


def numbers(rows: Rows, key: str, unit: float = 1.0) -> list[float]:
    """Of the seeds that have one."""
    return [row[key] / unit for row in rows if row.get(key) is not None]


def mean(rows: Rows, key: str, digits: int = 2, unit: float = 1.0) -> str:
    """Mean over the seeds that have a number."""
    values = numbers(rows, key, unit)
    return f"{statistics.fmean(values):,.{digits}f}" if values else "–"


def spread(rows: Rows, key: str, digits: int = 2, to: str = "-") -> str:
    """Mean, and least and most over seeds."""
    values, middle = numbers(rows, key), mean(rows, key, digits)
    return f"{middle} ({min(values):.{digits}f}{to}{max(values):.{digits}f})" if len(values) > 1 else middle


def line(cells: Iterable[str]) -> str:
    """A line of a table."""
    return "| " + " | ".join(cells) + " |"


def head(title: str, rows: Rows, columns: Iterable[str]) -> list[str]:
    """The lines above a table of several seeds: title, names of columns."""
    seeds, names = sorted({row["seed"] for row in rows}), ["", *columns]
    return [f"## {title}, seeds {', '.join(map(str, seeds))}", "", line(names), "|---" * len(names) + "|"]


def in_page(tables: Iterable[str], markdown: Path | None, mark: str = "tables") -> str:
    """The tables; or a page with the tables between its marks of this name."""
    shown = "\n\n".join(tables)
    if markdown is None:
        return shown
    text, start, end = markdown.read_text(encoding="utf-8"), f"<!-- {mark}: begin -->", f"<!-- {mark}: end -->"
    return f"{text[: text.index(start)]}{start}\n{shown}\n{text[text.index(end) :]}"
