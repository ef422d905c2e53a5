"""The Fisher beside a version: of whom it is, and that it goes whole."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from palimpsest.companions.companion import Change
from palimpsest.companions.delta_recording import RECORDING
from palimpsest.companions.fisher_kept import KeptFisher, known_fisher, record_fisher
from palimpsest.companions.marks import MarkKey, own_key
from palimpsest.errors import ModelError


def kept(place: Path, run: Path, key: MarkKey, ids: Sequence[str], size: float = 1.0) -> KeptFisher:
    record_fisher(run / RECORDING, {"w": torch.full((2,), size)}, ids)
    found = KeptFisher.open(place, key)
    found.take_up(run)
    return found


def plant(place: Path, key: MarkKey, ids: Sequence[str]) -> None:
    run = place.parent / f"run of {place.name}"
    kept(place, run, key, ids)
    for path in sorted(run.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()


def test_a_later_run_takes_its_place(tmp_path):
    kept(tmp_path / "fisher", tmp_path / "one", own_key(), ["a"])
    found = kept(tmp_path / "fisher", tmp_path / "two", own_key(), ["b"], 2.0)
    assert known_fisher({"fisher": found})["w"].tolist() == [2.0, 2.0]
    assert found.holds(["a", "b"]) == {"b"}
    assert known_fisher({}) == {}


def test_one_row_takes_it_whole(tmp_path):
    found = kept(tmp_path / "fisher", tmp_path / "one", own_key(), ["a", "b"])
    assert "averaged by the share alone" in found.forget(["a"]).stale
    assert found.tensors() == {}
    assert found.holds(["b"]) == frozenset()


def test_it_is_of_the_weights_as_they_were(tmp_path):
    found = kept(tmp_path / "fisher", tmp_path / "one", own_key(), ["a"])
    assert "er moved the weights" in found.stale_after(Change("er", "digest", steps=3))
    assert found.stale_after(Change("cofima", "digest", steps=3, recorded=frozenset({"fisher"}))) == ""


def test_damage_is_told(tmp_path):
    found = kept(tmp_path / "fisher", tmp_path / "one", own_key(), ["a"])
    path = found.folder / "fisher.safetensors"
    path.write_bytes(path.read_bytes()[:-4] + b"1234")
    assert "damaged" in found.damage()
    with pytest.raises(ModelError, match="damaged; delete"):
        found.tensors()
