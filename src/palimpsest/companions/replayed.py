"""A replay buffer on the disk: which rows it holds, under the marks of their ids.

The buffer itself (``data/memory/replay.py``) is told marks in the place of ids, so that its file names nobody; who
rehearses looks its rows up by their marks in the data at hand.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence

from palimpsest.companions.companion import Companion, Forgotten, Held, bytes_in
from palimpsest.data.memory.replay import ReplayBuffer
from palimpsest.models.deciding import file_digest
from palimpsest.models.sealed_json import read_sealed, write_sealed

_BUFFER = "buffer.json"


class Replayed(Companion):
    """A uniform sample of what was learned and not forgotten."""

    kind = "replay"

    def buffer(self) -> ReplayBuffer | None:
        """The buffer as it was saved; None before the first time."""
        path = self.folder / _BUFFER
        return ReplayBuffer.from_json(read_sealed(path)) if path.is_file() else None

    def save(self, buffer: ReplayBuffer) -> None:
        """Write a buffer of marks; on return it is on the disk."""
        write_sealed(self.folder / _BUFFER, json.loads(json.dumps(buffer.to_json())))

    def among(self, ids: Sequence[str]) -> list[str]:
        """Those of some ids that are in the buffer, in their order."""
        buffer = self.buffer()
        inside = frozenset(() if buffer is None else buffer.ids)
        return [i for i in ids if self.key.of_id(i) in inside]

    def holds(self, ids: Collection[str]) -> frozenset[str]:
        """Those that it knows, in the buffer or as one of those it was drawn from."""
        buffer = self.buffer()
        return frozenset() if buffer is None else frozenset(i for i in ids if buffer.seen(self.key.of_id(i)))

    def forget(self, ids: Collection[str]) -> Forgotten:
        """Take them and their copies out, and make sure that none is left."""
        buffer, held = self.buffer(), self.holds(ids)
        if buffer is None or not held:
            return Forgotten()
        inside = buffer.purge(sorted(map(self.key.of_id, held)))
        self.save(buffer)
        return Forgotten(held, len(inside))

    def digest(self) -> str:
        """Of the file."""
        return file_digest(self.folder / _BUFFER)

    def held(self) -> Held:
        """Rows that it was drawn from, and those in the buffer."""
        buffer = self.buffer()
        return Held(0, 0, 0) if buffer is None else Held(buffer.n, len(buffer), bytes_in(self.folder))


COMPANION = Replayed
