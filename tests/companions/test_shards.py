"""Checkpoints of slices: whom each has seen, what a purge takes, and what a run puts in their place."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from palimpsest.companions.companion import Change
from palimpsest.companions.marks import MarkKey, own_key
from palimpsest.companions.shards import RECORDED_SHARDS, Shards, SliceRecord, checkpoint_name, recorded_by
from palimpsest.errors import DataError, ModelError
from palimpsest.models.deciding import file_digest


def recorded(run: Path, rows: Sequence[Sequence[Sequence[str]]], value: float, new: set[str] | None = None) -> None:
    """Record shards of slices of ids; all files are new, or some, and the others are said to be there."""
    key = own_key()
    shards = []
    for s, slices in enumerate(rows):
        shards.append([])
        for j, ids in enumerate(slices):
            path = run / RECORDED_SHARDS / checkpoint_name(s, j)
            path.parent.mkdir(parents=True, exist_ok=True)
            save_file({"down.0": torch.full((2, 2), value)}, path)
            marks = tuple(sorted(map(key.of_id, ids)))
            shards[-1].append(SliceRecord(marks, path.name, file_digest(path)))
            if new is not None and path.name not in new:
                path.unlink()
    recorded_by(run, {"options": {}}, key, shards)


def plant(place: Path, key: MarkKey, ids: Sequence[str]) -> None:
    run = place.parent / f"run of {place.name}"
    recorded(run, [[ids, ["another row"]]], 1.0)
    Shards.open(place, key).take_up(run)
    for path in (run / RECORDED_SHARDS).iterdir():
        path.unlink()


@pytest.fixture
def shards(tmp_path) -> Shards:
    """Two shards: a | b, c and d | e."""
    found = Shards.open(tmp_path / "v", own_key())
    recorded(tmp_path / "run", [[["a"], ["b", "c"]], [["d"], ["e"]]], 1.0)
    found.take_up(tmp_path / "run")
    found.passed_on(Change("sisa", "digest of v", 1, recorded=frozenset({"shards"})))
    return found


def files(shards: Shards) -> set[str]:
    return {path.name for path in shards.folder.glob("*.safetensors")}


def test_a_purge_takes_the_checkpoints_that_saw_the_row_and_no_other(shards):
    assert shards.place_of(["a", "c", "x"]) == {"a": (0, 0), "c": (0, 1)}
    found = shards.forget(["c", "x"])
    assert (found.ids, found.records) == ({"c"}, 1)
    assert files(shards) == {checkpoint_name(0, 0), checkpoint_name(1, 0), checkpoint_name(1, 1)}
    assert shards.holds(["a", "b", "c", "d", "e"]) == {"a", "b", "d", "e"}
    assert "goes back" in found.stale
    shards.forget(["a"])
    assert files(shards) == {checkpoint_name(1, 0), checkpoint_name(1, 1)}
    assert shards.checkpoint(0, 0) is None  # nothing was learned by then
    with pytest.raises(ModelError, match=r"after slice 2 of shard 1 .* is missing; .*from_base=true"):
        shards.checkpoint(0, 1)


def test_what_a_run_learned_takes_the_place_of_what_was_there(shards, tmp_path):
    kept = (shards.folder / checkpoint_name(0, 0)).read_bytes()
    rows = [[["a"], ["b"]], [["d"], ["e"]]]
    recorded(tmp_path / "old", rows, 1.0)
    recorded(tmp_path / "again", rows, 1.0, new=set())
    recorded(tmp_path / "again", rows, 1.0, new={checkpoint_name(0, 1)})
    shards.take_up(tmp_path / "again")
    shards.passed_on(Change("sisa", "digest of w", 1, frozenset({"c"}), frozenset({"shards"})))
    assert (shards.folder / checkpoint_name(0, 0)).read_bytes() == kept
    assert shards.holds(["c"]) == frozenset()
    assert len(files(shards)) == 4
    assert shards.checkpoint(0, 1) is not None
    shards.check_whole("digest of w", "w")
    with pytest.raises(ModelError, match="other weights"):
        shards.check_whole("digest of v", "w")


def test_strangers_are_refused(shards):
    shards.check_covers(["a", "e"], "v")
    with pytest.raises(DataError, match=r"1 of 2 rows to forget are in no shard of v \(first: 'x'\)"):
        shards.check_covers(["a", "x"], "v")


def test_whatever_else_changes_the_model_leaves_them_behind(shards):
    assert "npo changed" in shards.stale_after(Change("npo", "m", 3))
    assert shards.stale_after(Change("sisa", "m", 3, recorded=frozenset({"shards"}))) == ""


def test_another_key_and_a_damaged_index_are_refused(shards):
    with pytest.raises(ModelError, match="another key"):
        Shards.open(shards.folder, MarkKey(b"0" * 32))
    (shards.folder / "index.json").write_text("{}")
    with pytest.raises(ModelError, match=r"index.json is damaged: .*learn again"):
        Shards.open(shards.folder, own_key())
