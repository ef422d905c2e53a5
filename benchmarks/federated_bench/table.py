"""The page of ``benchmarks/federated.py``: means over seeds, one line per eraser, a table per task."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from seed_tables import Rows, head, in_page, line, mean, rows_of, spread

__all__ = ["page", "rows_of"]

Columns = Mapping[str, Callable[[Rows, Rows], str]]


def part_of(rows: Rows, oracle: Rows, key: str) -> str:
    """Share of the oracle's, of the sums over the seeds that both have."""
    seeds = {row["seed"] for row in rows} & {row["seed"] for row in oracle}
    own, whole = (sum(row[key] for row in some if row["seed"] in seeds) for some in (rows, oracle))
    return f"{own / whole:.2f}" if whole else "–"


def same(rows: Rows) -> str:
    """Were all seeds the bits of a federation that the client never was in?"""
    said = [row["same bits as never there"] for row in rows if "same bits as never there" in row]
    return "–" if not said else "yes" if all(said) else "no"


BESIDE_RETRAINING: Columns = {
    "of retraining": lambda rows, oracle: part_of(rows, oracle, "seconds"),
    "answers": lambda rows, oracle: mean(rows, "answers", 0),
    "distance to retraining": lambda rows, oracle: mean(rows, "distance", 1),
    "bits of never there": lambda rows, oracle: same(rows),
}
OF_DIGITS: Columns = {
    "clean accuracy": lambda rows, oracle: spread(rows, "clean", 3, "–"),
    "backdoor": lambda rows, oracle: spread(rows, "backdoor", 3, "–"),
    "CPU seconds": lambda rows, oracle: mean(rows, "seconds", 2),
    **BESIDE_RETRAINING,
}
OF_PEOPLE: Columns = {
    "forget ES": lambda rows, oracle: spread(rows, "forget es", 2, "–"),
    "retain ES": lambda rows, oracle: spread(rows, "retain es", 2, "–"),
    "CPU seconds": lambda rows, oracle: mean(rows, "seconds", 0),
    **BESIDE_RETRAINING,
}
COLUMNS: Mapping[str, tuple[str, str, Columns]] = {
    "digits": ("A client with a backdoor, digits", "retrain_others", OF_DIGITS),
    "digits through Flower": ("The same through Flower's simulation", "retrain_others", OF_DIGITS),
    "people": ("A client of three, people of knowundo-privacy", "retrain_others", OF_PEOPLE),
    "other people": ("A client of three other people", "retrain_others", OF_PEOPLE),
}


def page(rows: Rows, markdown: Path | None) -> str:
    """The tables; or a page with the tables between its marks."""
    return in_page((table(task, rows) for task in COLUMNS if any(row["task"] == task for row in rows)), markdown)


def table(task: str, rows: Rows) -> str:
    """One task, a line per eraser, in the order of the file."""
    title, yardstick, columns = COLUMNS[task]
    of_task = [row for row in rows if row["task"] == task]
    oracle = [row for row in of_task if row["eraser"] == yardstick]
    lines = head(title, of_task, columns)
    for name in dict.fromkeys(row["eraser"] for row in of_task):
        own = [row for row in of_task if row["eraser"] == name]
        lines.append(line([name, *(show(own, oracle) for show in columns.values())]))
    return "\n".join(lines)
