"""The index of codes: counts of a topic by hand, who is known, and what a purge and a step leave."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from palimpsest.companions.codes import Codes, packed_bits, record_codes, unpacked_bits
from palimpsest.companions.companion import Change
from palimpsest.companions.delta_recording import RECORDING
from palimpsest.companions.marks import MarkKey, own_key
from palimpsest.errors import ModelError

FIRED = torch.tensor([[1, 0, 1], [1, 1, 0], [0, 0, 1]]).bool()
SUBJECTS = {"a": "dogs", "b": "dogs"}


def plant(place: Path, key: MarkKey, ids: Sequence[str]) -> None:
    """For the battery: these rows, and another one, of one subject."""
    run = place.parent / "run"
    rows = [*ids, "another"]
    record_codes(run / RECORDING, rows, dict.fromkeys(rows, "topic"), torch.ones(len(rows), 9).bool(), 8)
    Codes.open(place, key).take_up(run)
    (run / RECORDING / "codes" / "codes.safetensors").unlink()


@pytest.fixture
def codes(tmp_path) -> Codes:
    record_codes(tmp_path / RECORDING, ["a", "b", "c"], SUBJECTS, FIRED, 2)
    found = Codes.open(tmp_path / "codes", own_key())
    found.take_up(tmp_path)
    return found


def test_counts_of_a_topic_and_of_all_others(codes):
    found = codes.firing("dogs")
    assert (found.with_K.tolist(), found.rows_with) == ([2, 1, 1], 2)
    assert (found.without_K.tolist(), found.rows_without) == ([0, 0, 1], 1)
    assert codes.firing("cats") is None
    assert codes.known_topics(["cats", "dogs"]) == ("dogs",)


def test_a_purged_row_is_in_no_count_any_more(codes):
    codes.forget(["b"])
    found = Codes.open(codes.folder, codes.key).firing("dogs")
    assert (found.with_K.tolist(), found.rows_with) == ([1, 0, 1], 1)


def test_no_subject_is_written_in_clear(codes):
    assert not any(b"dogs" in path.read_bytes() for path in codes.folder.iterdir())


def test_it_is_stale_once_weights_moved_and_not_after_an_edit(codes):
    assert "moved the weights" in codes.stale_after(Change("npo", "m", 3))
    assert codes.stale_after(Change("code_unlearn", "m", 0)) == ""
    assert codes.stale_after(Change("code_learn", "m", 3, recorded=frozenset({"codes"}))) == ""


def test_another_key_and_damage_are_refused(codes):
    with pytest.raises(ModelError, match="another key"):
        Codes.open(codes.folder, MarkKey(b"k" * 32))
    (codes.folder / "codes.safetensors").write_bytes(b"x" * 40)
    with pytest.raises(ModelError, match="is damaged"):
        Codes.open(codes.folder, codes.key)


def test_bits_come_back():
    fired = torch.rand(5, 19, generator=torch.Generator().manual_seed(0)) > 0.5
    assert torch.equal(unpacked_bits(packed_bits(fired), 19), fired)
