"""A saved replay buffer goes on as it was, and names nobody."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from palimpsest.companions.marks import MarkKey
from palimpsest.companions.replayed import Replayed
from palimpsest.data.memory.replay import ReplayBuffer

KEY = MarkKey(b"k" * 32)


def plant(place: Path, key: MarkKey, ids: Sequence[str]) -> None:
    """For the battery: a buffer with these rows and others in it."""
    buffer = ReplayBuffer(100, seed=0)
    buffer.insert([key.of_id(i) for i in (*ids, "x", "y")])
    Replayed.open(place, key).save(buffer)


def test_it_goes_on_as_the_buffer_of_ids_would(tmp_path):
    """A small buffer, so that rows outside it matter, too."""
    rows = [f"r{i}" for i in range(20)]
    plain, marked = ReplayBuffer(5, seed=3), ReplayBuffer(5, seed=3)
    plain.insert(rows)
    marked.insert([KEY.of_id(row) for row in rows])
    Replayed.open(tmp_path, KEY).save(marked)
    plain.purge(rows[:10])
    found = Replayed.open(tmp_path, KEY).forget(rows[:10])
    assert found.ids == set(rows[:10])
    again = Replayed.open(tmp_path, KEY)
    assert set(again.among(rows)) == set(plain.ids)
    assert again.holds(rows) == set(rows[10:])
