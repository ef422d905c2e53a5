"""Classes beside a model: whose they are, and that one row takes its class along."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from palimpsest.companions.companion import Change
from palimpsest.companions.delta_recording import RECORDING
from palimpsest.companions.gaussians import ClassGaussians, known_gaussians, record_gaussians
from palimpsest.companions.marks import MarkKey, own_key
from palimpsest.errors import ModelError
from palimpsest.models.class_gaussians import ClassGaussian


def gaussian(mean: float, task: int = 0) -> ClassGaussian:
    return ClassGaussian(torch.full((2,), mean, dtype=torch.float64), torch.eye(2, dtype=torch.float64), task)


def taught(place: Path, run: Path, key: MarkKey, rows: dict[int, Sequence[str]], task: int = 0) -> ClassGaussians:
    record_gaussians(run / RECORDING, {label: gaussian(label, task) for label in rows}, rows)
    found = ClassGaussians.open(place, key)
    found.take_up(run)
    return found


def plant(place: Path, key: MarkKey, ids: Sequence[str]) -> None:
    run = place.parent / f"run of {place.name}"
    taught(place, run, key, {0: list(ids), 1: ["another"]})
    for path in sorted(run.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()


@pytest.fixture
def two(tmp_path):
    key = own_key()
    taught(tmp_path / "kept", tmp_path / "run1", key, {0: ["a", "b"], 3: ["c"]})
    return taught(tmp_path / "kept", tmp_path / "run2", key, {3: ["d"], 1: ["e"]}, task=1)


def test_later_classes_are_added_and_one_learned_again_is_what_it_is_now(two):
    assert {label: (one.mean_D[0].item(), one.task) for label, one in two.gaussians.items()} == {
        0: (0.0, 0),
        1: (1.0, 1),
        3: (3.0, 1),
    }
    assert two.holds(["a", "b", "c", "d", "e"]) == {"a", "b", "d", "e"}
    assert known_gaussians({"class_gaussians": two}).keys() == {0, 1, 3}
    assert known_gaussians({}) == {}


def test_a_row_takes_its_class_along(two):
    gone = two.forget(["a", "x"])
    assert (gone.ids, gone.records) == ({"a"}, 1)
    assert "1 class will not be rehearsed" in gone.stale
    assert two.gaussians.keys() == {1, 3}
    assert two.holds(["a", "b"]) == frozenset()


def test_a_moving_backbone_does_not_make_it_stale(two):
    assert two.stale_after(Change("ug_clu", "digest", steps=9, forgotten=frozenset({"d"}))) == ""
    two.passed_on(Change("ug_clu", "digest", steps=9, forgotten=frozenset({"d"})))
    assert two.gaussians.keys() == {0, 1}


def test_damage_and_another_key_are_told(two):
    with pytest.raises(ModelError, match="another key"):
        ClassGaussians.open(two.folder, MarkKey(b"x" * 32))
    path = two.folder / "gaussians.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-8] + bytes(8))
    assert "damaged" in two.damage()
    path.write_bytes(whole[:40])
    with pytest.raises(ModelError, match=r"damaged; delete .*kept to go on"):
        ClassGaussians.open(two.folder, two.key)
