"""Rows with their places, whatever they come from. What the rows mean is decided in shapes.py."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from palimpsest.data.read.contents import Row
from palimpsest.errors import DataError
from palimpsest.records import Example


class Table(NamedTuple):
    """Rows with their places; a row that cannot be read is the error that says why.

    Attributes:
        origin: the file, the folder, or words for what is in memory.
        columns: names, if they are the same for all rows.
        rows: (place such as "people.jsonl, line 3", row).
        cells_only: cells are strings.
        pictures: cells may be pictures.
        class_names: column of numbers -> the names that the source gives them, by number.
        null_ids: an id of None is an absent one, as it is in a table.
        settled: which of "split" and "revision" were used to open it.
    """

    origin: str
    columns: tuple[str, ...] | None
    rows: Iterator[tuple[str, Row | Example | DataError]]
    cells_only: bool = False
    pictures: bool = False
    class_names: Mapping[str, tuple[str, ...]] = MappingProxyType({})
    null_ids: bool = False
    settled: frozenset[str] = frozenset()


def numbered(origin: str, rows: Iterable[Row | Example | DataError]) -> Iterator[tuple[str, Row | Example | DataError]]:
    """Rows that are on no line of their own, counted from 1."""
    return ((f"{origin}, row {number}", row) for number, row in enumerate(rows, 1))


def refuse_twins(columns: Sequence[str], origin: str) -> None:
    """Refuse columns of the same name, of which only one would be read. Without a name none is: sheets end in such.

    Raises:
        DataError: one appears twice.
    """
    twice = [name for name, count in Counter(columns).items() if name and count > 1]
    if twice:
        raise DataError(f"{origin}: column {twice[0]!r} appears twice; keep one")


def one_line(error: BaseException) -> str:
    """What a library said, fit for a message."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else text[:199] + "…"


def names_in(features: Mapping[str, Any] | None) -> dict[str, tuple[str, ...]]:
    """Column -> names of its classes, of features as ``datasets`` has them, or as it writes them into a file."""
    found = {}
    for column, feature in (features or {}).items():
        names = feature.get("names") if isinstance(feature, Mapping) else getattr(feature, "names", None)
        if isinstance(names, list | tuple):
            found[str(column)] = tuple(map(str, names))
    return found
