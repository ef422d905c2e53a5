"""What histories share that keep a file for each record and, in an index, whose rows each file is of."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from palimpsest.companions.companion import Held, bytes_in
from palimpsest.companions.marks import MarkKey
from palimpsest.models.deciding import file_digest


class RecordOfRows(Protocol):
    """A line of such an index."""

    @property
    def file(self) -> str:
        """Its name in the folder."""

    @property
    def sha256(self) -> str:
        """Of the file."""

    @property
    def who(self) -> tuple[str, ...]:
        """Marks of its rows."""


AnyRecord = TypeVar("AnyRecord", bound=RecordOfRows)


def ids_in(records: Sequence[RecordOfRows], key: MarkKey, ids: Collection[str]) -> frozenset[str]:
    """Those of some ids that a record is of."""
    marks = {mark for record in records for mark in record.who}
    return key.known(ids, marks)


def records_with(records: Sequence[AnyRecord], key: MarkKey, ids: Collection[str]) -> list[AnyRecord]:
    """The records that are of one of some ids."""
    marks = key.of_ids(ids)
    return [record for record in records if marks & set(record.who)]


def wrong_with(record: RecordOfRows, folder: Path) -> str:
    """In a word, what is wrong with its file; "" where it is there as it was written."""
    path = folder / record.file
    if not path.is_file():
        return "missing"
    return "" if file_digest(path) == record.sha256 else "damaged"


def first_damage(records: Sequence[RecordOfRows], folder: Path) -> str:
    """The first file that is not there as it was written, in words."""
    found = ((record.file, wrong_with(record, folder)) for record in records)
    return next((f"{name} is {what}" for name, what in found if what), "")


def how_much(records: Sequence[RecordOfRows], folder: Path) -> Held:
    """Rows, records and bytes."""
    return Held(len({mark for record in records for mark in record.who}), len(records), bytes_in(folder))
