"""Gradients of earlier requests beside a model: of whom they are, what is handed on, and what a purge leaves."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from palimpsest.companions.companion import Change
from palimpsest.companions.delta_recording import RECORDING
from palimpsest.companions.gradient_log import PastGradients, record_gradients
from palimpsest.companions.marks import MarkKey, own_key
from palimpsest.errors import ModelError


def request(run: Path, key: MarkKey, *groups: Sequence[str]) -> Path:
    found = [({"w": torch.full((2,), float(n))}, {key.of_id(i) for i in ids}) for n, ids in enumerate(groups)]
    record_gradients(run / RECORDING / "past_gradients", found)
    return run


def plant(place: Path, key: MarkKey, ids: Sequence[str]) -> None:
    run = place.parent / f"run of {place.name}"
    PastGradients.open(place, key).take_up(request(run, key, ids))
    shutil.rmtree(run)


@pytest.fixture
def past(tmp_path) -> PastGradients:
    """Two requests, of two gradients and one."""
    key = own_key()
    assert key is not None
    found = PastGradients.open(tmp_path / "past", key)
    found.take_up(request(tmp_path / "run1", key, ["a", "b"], ["c"]))
    found.take_up(request(tmp_path / "run2", key, ["d"]))
    return found


def change(forgotten: str, *recorded: str) -> Change:
    return Change("npo", "", 3, frozenset(forgotten), frozenset(recorded))


def test_gradients_come_in_the_order_of_the_requests(past):
    assert [one["w"].tolist() for one in past.gradients()] == [[0.0, 0.0], [1.0, 1.0], [0.0, 0.0]]
    assert [record.request for record in past.records] == [0, 0, 1]
    assert past.held().examples == 4


def test_a_purge_takes_every_gradient_that_a_row_was_in_and_no_other(past):
    assert past.forget(["a", "x"]).records == 1
    assert past.holds(["a", "b", "c", "d"]) == {"c", "d"}
    assert [path.name for path in sorted(past.folder.glob("*.safetensors"))] == ["0001.safetensors", "0002.safetensors"]


def test_the_request_at_hand_is_kept_and_earlier_gradients_of_its_rows_are_not(past, tmp_path):
    past.take_up(request(tmp_path / "run3", past.key, ["d", "e"]))
    assert past.passed_on(change("de", "past_gradients")).records == 1
    assert past.holds(["a", "d", "e"]) == {"a", "d", "e"}
    assert [record.request for record in past.records] == [0, 0, 2]


def test_a_run_that_records_nothing_keeps_nothing_of_its_rows(past):
    assert past.passed_on(change("d")).records == 1
    assert past.holds(["d"]) == frozenset()
    assert past.stale_after(change("d")) == ""


def test_what_the_index_does_not_name_goes_with_the_next_purge(past):
    (past.folder / "0009.safetensors").write_bytes(b"left by a purge that died")
    past.forget(["nobody"])
    assert not (past.folder / "0009.safetensors").exists()


def test_what_is_damaged_is_not_used(past):
    (past.folder / "0001.safetensors").write_bytes(b"")
    with pytest.raises(ModelError, match=r"0001.safetensors is damaged"):
        list(past.gradients())
    (past.folder / "index.json").write_text("{}")
    with pytest.raises(ModelError, match="is damaged; delete"):
        PastGradients.open(past.folder, past.key)
