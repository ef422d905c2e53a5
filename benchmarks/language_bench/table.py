"""The page of ``benchmarks/language.py``: means over seeds, one line per method, a table per world."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from seed_tables import Rows, head, in_page, line, mean, rows_of, spread

__all__ = ["page", "rows_of"]

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


def page(rows: Rows, markdown: Path | None, columns: Columns = COLUMNS) -> str:
    """The tables; or a page with the tables between the marks of these columns."""
    worlds = [world for world in WORLDS if any(row["world"] == world for row in rows)]
    mark = "attacks" if columns is ATTACKS else "tables"
    return in_page((table(world, rows, columns) for world in worlds), markdown, mark)


def table(world: str, rows: Rows, columns: Columns = COLUMNS) -> str:
    """One world, a line per method, in the order of the file; and what was refused."""
    of_world = [row for row in rows if row["world"] == world]
    lines = head(WORLDS[world], of_world, columns)
    for name in dict.fromkeys(row["method"] for row in of_world):
        own = [row for row in of_world if row["method"] == name and "refused" not in row]
        if own:
            lines.append(line([name, *(show(own) for show in columns.values())]))
    return "\n".join([*lines, *refused(of_world)])


def refused(rows: Rows) -> list[str]:
    """Why a method has no row."""
    found = dict.fromkeys((row["method"], row["refused"]) for row in rows if "refused" in row)
    return ["", *(f"* `{name}` has no row: {why}" for name, why in found)] if found else []
