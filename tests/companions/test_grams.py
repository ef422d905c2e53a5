"""Gram matrices beside a model: of whom they are, which layer they belong to, and what a purge leaves."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from palimpsest.companions.companion import Change
from palimpsest.companions.delta_recording import RECORDING
from palimpsest.companions.grams import GramMatrices, record_grams
from palimpsest.companions.marks import MarkKey, own_key
from palimpsest.errors import ModelError

PLACE, FIRST, BOTH = "layers.0.mlp", {"layers.0.mlp": "one"}, {"layers.0.mlp": "both"}


def request(run: Path, ids: Sequence[str], layers: dict[str, str], *, fused: bool, size: float = 1.0) -> Path:
    record_grams(run / RECORDING, {PLACE: {"input": size * torch.eye(2)}}, ids, layers, fused=fused)
    return run


def plant(place: Path, key: MarkKey, ids: Sequence[str]) -> None:
    run = place.parent / f"run of {place.name}"
    record_grams(run, {PLACE: {"input": torch.eye(2)}}, ids, FIRST, fused=False)
    folder = run / "grams"
    run.joinpath(RECORDING).mkdir()
    folder.rename(run / RECORDING / "grams")
    GramMatrices.open(place, key).take_up(run)
    for path in (run / RECORDING / "grams").iterdir():
        path.unlink()


@pytest.fixture
def grams(tmp_path):
    key = own_key()
    found = GramMatrices.open(tmp_path / "grams", key)
    found.take_up(request(tmp_path / "run1", ["a", "b"], FIRST, fused=False))
    found.take_up(request(tmp_path / "run2", ["c"], BOTH, fused=True, size=2.0))
    return found


def test_a_fused_layer_has_the_sum_of_its_requests(grams):
    assert grams.moments_of(PLACE, "both")["input"].tolist() == [[3.0, 0.0], [0.0, 3.0]]


def test_a_layer_of_which_nothing_was_kept_is_refused(grams):
    with pytest.raises(ModelError, match=r"has no Gram matrices beside the model.*eul.fuse=true"):
        grams.moments_of(PLACE, "one")  # it was fused into another


def test_a_purge_takes_the_request_and_leaves_the_others(grams):
    assert grams.holds(["a", "c", "x"]) == {"a", "c"}
    gone = grams.forget(["a"])
    assert gone.ids == {"a"}
    assert "no longer be fused" in gone.stale
    assert grams.holds(["a", "b", "c"]) == {"c"}
    assert [path.name for path in sorted(grams.folder.glob("*.safetensors"))] == ["0001.safetensors"]


def test_what_a_run_forgot_just_now_is_kept_and_earlier_requests_of_it_are_not(grams):
    grams.passed_on(Change("eul", "model", 4, frozenset({"b", "c"})))
    assert grams.holds(["a", "b", "c"]) == {"c"}


def test_another_method_makes_them_stale(grams):
    assert "npo moved the weights" in grams.stale_after(Change("npo", "model", 4))
    assert grams.stale_after(Change("eul", "model", 4, recorded=frozenset({"grams"}))) == ""


def test_a_damaged_file_is_told(grams):
    (grams.folder / "0000.safetensors").write_bytes(b"x")
    with pytest.raises(ModelError, match=r"0000.safetensors is damaged"):
        grams.moments_of(PLACE, "both")
