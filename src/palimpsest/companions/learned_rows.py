"""``learned.json`` as a companion: it brings no row back, and tells which ones were learned to who has the key."""

from __future__ import annotations

from collections.abc import Collection

from palimpsest.companions.companion import Companion, Forgotten, Held
from palimpsest.companions.learned import LearnedRecord, learned_text, read_record, write_learned
from palimpsest.models.bound import expect
from palimpsest.models.deciding import file_digest


class LearnedRows(Companion):
    """Marks of what was learned. A run writes its own (``learned.py``), so that nothing is handed on here.

    To forget moves a mark to those that are to stay away: who asks to learn the row again is told.
    """

    kind = "learned"
    within = "learned.json"
    handed_on = False
    brings_back = False

    def holds(self, ids: Collection[str]) -> frozenset[str]:
        """Those that it says were learned."""
        marks = {mark[0] for mark in self._record.learned}
        return self.key.known(ids, marks)

    def forget(self, ids: Collection[str]) -> Forgotten:
        """Move their marks to the forgotten ones; the manifest of the folder is told before."""
        held = self.holds(ids)
        if held:
            record = self._record.forgetting(self.key.of_ids(held))
            expect(self.folder.parent, self.folder.name, learned_text(record))
            write_learned(self.folder.parent, record)
        return Forgotten(held, len(held))

    def digest(self) -> str:
        """Of the file."""
        return file_digest(self.folder)

    def held(self) -> Held:
        """A mark is a record."""
        count = len(self._record.learned)
        return Held(count, count, self.folder.stat().st_size)

    @property
    def _record(self) -> LearnedRecord:
        return read_record(self.folder.parent) or LearnedRecord(self.key)


COMPANION = LearnedRows
