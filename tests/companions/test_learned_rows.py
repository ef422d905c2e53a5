"""``learned.json`` as a companion: a purge moves marks, and the manifest holds on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from palimpsest.companions.learned import LearnedRecord, read_record, write_learned
from palimpsest.companions.learned_rows import LearnedRows
from palimpsest.companions.marks import MarkKey, own_key
from palimpsest.models.bound import changes_in, write_manifest
from palimpsest.records import Example, Text


def plant(place: Path, key: MarkKey, ids: Sequence[str]) -> None:
    """For the battery: a record that these rows were learned."""
    place.parent.mkdir(parents=True, exist_ok=True)
    rows = [Example(i, Text(f"text of number {n}")) for n, i in enumerate(ids)]
    write_learned(place.parent, LearnedRecord(key).after(rows, []))


def test_a_forgotten_row_is_told_as_such_and_the_manifest_holds(tmp_path):
    key = own_key()
    assert key is not None
    plant(tmp_path / "learned.json", key, ["a", "b"])
    (tmp_path / "config.json").write_text("{}")
    write_manifest(tmp_path)
    assert LearnedRows.open(tmp_path / "learned.json", key).forget(["a", "c"]).ids == {"a"}
    record = read_record(tmp_path)
    assert record is not None
    assert record.has_forgotten(Example("a", Text("?")))
    assert record.has_learned(Example("b", Text("?")))
    found = changes_in(tmp_path)
    assert found is not None
    assert not any(found)
