"""What a run is about, in words: rows of text or images, and how the models beside each other are called."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath

from palimpsest.report.numbers import several
from palimpsest.report.schema import RunResult


def of_images(result: RunResult) -> bool:
    """Were images measured? Their units say so; in files of version 0.1.0, without such units, that classes counted."""
    measured = [metrics for sets in result.scores.values() for metrics in sets.values()]
    of_old = result.ending is None and result.kind != "measure"
    units = (score.unit for metrics in measured for score in metrics.values())
    return any("image" in unit for unit in units) or (of_old and any("accuracy" in metrics for metrics in measured))


def things(result: RunResult, number: int) -> str:
    """So many rows, or images."""
    return several(number, "image" if of_images(result) else "row")


def passed_through(result: RunResult) -> str:
    """What is counted as it goes through the model."""
    return "images" if of_images(result) else "token positions"


def column_name(column: str) -> str:
    """A column as it is headed: the estimated level is what a model should score that never saw the rows.

    >>> column_name("after"), column_name("level")
    ('after', 'never seen')
    """
    return "never seen" if column == "level" else column


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
