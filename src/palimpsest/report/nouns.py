"""What a run is about, in words: rows of text or images, and how the models beside each other are called."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath

from palimpsest.report.numbers import several
from palimpsest.report.schema import RunResult

DIGEST_LENGTH, SHOWN = 64, 12


def of_images(result: RunResult) -> bool:
    """Were images measured? Their units say so."""
    units = (s.unit for sets in result.scores.values() for metrics in sets.values() for s in metrics.values())
    return any("image" in unit for unit in units)


def things(result: RunResult, number: int) -> str:
    """So many rows, or images."""
    return several(number, "image" if of_images(result) else "row")


def passed_through(result: RunResult) -> str:
    """What is counted as it goes through the model."""
    return "images" if of_images(result) else "token positions"


def heading(column: str) -> str:
    """A column as it is headed: the estimated level is what a model should score that never saw the rows.

    >>> heading("after"), heading("level")
    ('after', 'never seen')
    """
    return "never seen" if column == "level" else column


def short(identifier: str) -> str:
    """An id as it is, a digest by its first digits.

    >>> short("k018"), short("ab" * 32)
    ('k018', 'abababababab…')
    """
    is_digest = len(identifier) == DIGEST_LENGTH and set(identifier) <= set("0123456789abcdef")
    return f"{identifier[:SHOWN]}…" if is_digest else identifier


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
