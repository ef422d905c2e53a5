"""What a run is about, in words: rows of text or images, and how the models beside each other are called."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath

from palimpsest.report.numbers import several
from palimpsest.report.schema import RunResult


def kind_in_record(result: RunResult) -> str:
    """What its model takes: "text", "labels" or "image"."""
    return result.modality or ("image" if of_images(result) else "text")


def of_images(result: RunResult) -> bool:
    """Were images measured? The record says so; of version 0.1.0 the units, or an accuracy that nobody asked for."""
    if result.modality is not None:
        return result.modality == "image"
    rows = [(key, s.unit) for sets in result.scores.values() for keys in sets.values() for key, s in keys.items()]
    unasked = any(key == "accuracy" for key, _ in rows) and not _asks_accuracy(result)
    return unasked or any("image" in unit for _, unit in rows)


def _asks_accuracy(result: RunResult) -> bool:
    """Was accuracy asked for in the plan? Images have it without, and a default gate on it; texts have neither."""
    measuring = result.plan.get("measuring")
    asked = measuring.get("metrics") if isinstance(measuring, dict) else None
    gates = () if result.verdict is None or result.plan.get("gates") else result.verdict.gates
    return not isinstance(asked, list) or ("accuracy" in asked and not any(" accuracy " in g.gate for g in gates))


def things(result: RunResult, number: int) -> str:
    """So many rows, or images."""
    return several(number, "image" if of_images(result) else "row")


def passed_through(result: RunResult) -> str:
    """What is counted as it goes through the model."""
    return "images" if of_images(result) else "token positions"


def column_name(column: str) -> str:
    """A column as it is headed: the estimated level is what a model should score that never saw the rows.

    >>> column_name("after"), column_name("level"), column_name("without")
    ('after', 'never seen', 'guard off')
    """
    return {"level": "never seen", "without": "guard off"}.get(column, column)


def listed(names: Sequence[str], most: int = 4) -> str:
    """Names as a sentence has them, the first few where there are many.

    >>> listed(["Ann"]), listed(["Ann", "Bob", "Cid"]), listed("abcdefg")
    ('Ann', 'Ann, Bob and Cid', 'a, b, c, d and 3 more')
    """
    if len(names) > most + 1:
        return f"{', '.join(names[:most])} and {len(names) - most} more"
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else list(names))


def file_name(source: str) -> str:
    """A file without the folders it lies in, which are nobody's business.

    >>> file_name("/home/ann/people.jsonl"), file_name("")
    ('people.jsonl', '')
    """
    return PurePath(source).name
