"""Hidden states of the model before a run, kept while the run lasts: with the head beside them they say the rows."""

from __future__ import annotations

from collections.abc import Collection

from palimpsest.companions.companion import Companion, Forgotten, Held, bytes_in
from palimpsest.durable import flush
from palimpsest.models.deciding import file_digest
from palimpsest.models.reference import CachedReference
from palimpsest.records import digest

_HEAD = "head.safetensors"


class ReferenceStates(Companion):
    """The cache of ``models/reference.py``. It goes with its run, and is never handed on."""

    kind = "reference_states"
    within = "reference"
    handed_on = False

    def holds(self, ids: Collection[str]) -> frozenset[str]:
        """Those whose states are there."""
        return CachedReference(self.folder).holds(ids)

    def forget(self, ids: Collection[str]) -> Forgotten:
        """Delete their states."""
        held = self.holds(ids)
        if held:
            CachedReference(self.folder).forget(held)
            flush(self.folder)
        return Forgotten(held, len(held))

    def digest(self) -> str:
        """Of all files."""
        return digest({path.name: file_digest(path) for path in sorted(self.folder.glob("*.safetensors"))})

    def held(self) -> Held:
        """An example is a file."""
        count = sum(path.name not in (_HEAD, "logits.safetensors") for path in self.folder.glob("*.safetensors"))
        return Held(count, count, bytes_in(self.folder))


COMPANION = ReferenceStates
