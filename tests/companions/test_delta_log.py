"""The delta log: sums by hand, purge, gaps, other keys, other models, deaths in between."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import torch

from palimpsest.companions import delta_log
from palimpsest.companions.companion import Change
from palimpsest.companions.delta_format import KeptTensor, packed
from palimpsest.companions.delta_log import DELTA_INDEX, DeltaLog
from palimpsest.companions.delta_record import layout_name, record_name, write_delta
from palimpsest.companions.marks import MarkKey
from palimpsest.errors import DataError, ModelError

KEY = MarkKey(b"k" * 32)
LAYOUT = (KeptTensor("w", (4,), 1.0), KeptTensor("v", (2,), 1.0))
STEPS = [("a", "b"), ("c",), ("b", "d"), ("e",)]
"""Rows of four steps; step i changed every weight by 2^i."""


def write_log(folder: Path, steps: Sequence[Sequence[str]], key: MarkKey = KEY, model: str = "M") -> DeltaLog:
    """A log of some steps, step i a change of 2^i everywhere."""
    source = folder.parent / "recorded"
    source.mkdir(parents=True, exist_ok=True)
    for number, ids in enumerate(steps):
        changes = {place.name: torch.full(place.shape, 2.0**number) for place in LAYOUT}
        who = [key.of_id(i) for i in ids]
        write_delta(source / record_name(number), packed(changes, LAYOUT), who, layout_name(LAYOUT))
    log = DeltaLog.open(folder, key)
    log.add([source / record_name(number) for number in range(len(steps))], {layout_name(LAYOUT): LAYOUT})
    log.write(log.index._replace(model=model))
    shutil.rmtree(source)
    return DeltaLog.open(folder, key)


def plant(folder: Path, key: MarkKey, ids: Sequence[str]) -> None:
    """For the battery: a history with these rows in it."""
    write_log(folder, [ids, ("somebody else",)], key)


def sums(totals: Mapping[str, torch.Tensor]) -> list[float]:
    return sorted({float(value) for tensor in totals.values() for value in tensor.flatten()})


@pytest.fixture
def log(tmp_path) -> DeltaLog:
    return write_log(tmp_path / "deltas", STEPS)


@pytest.mark.parametrize(("ids", "total"), [("b", [5.0]), ("ac", [3.0]), ("abcde", [15.0]), ("z", []), ("e", [8.0])])
def test_what_is_taken_back_is_every_step_that_met_a_row(log, ids, total):
    assert sums(log.total_of(ids)) == total


def test_a_purge_takes_the_steps_and_says_who_lost_some(log, tmp_path):
    found = log.forget(["b", "nobody"])
    assert found.ids == {"b"}
    assert found.records == 2
    assert found.stale == "2 other rows shared these steps, and can no longer be subtracted whole"
    again = DeltaLog.open(tmp_path / "deltas", KEY)
    assert again.holds("abcde") == {"c", "e"}
    assert sums(again.total_of("abcde")) == [10.0]
    assert len(list((tmp_path / "deltas").glob("*.safetensors"))) == 2


def test_rows_that_lost_steps_are_refused(tmp_path):
    log = write_log(tmp_path / "deltas", [*STEPS, ("d",)])
    log.forget(["b"])
    log.check_covers(["c", "e"], "model m")
    with pytest.raises(DataError, match=r"has a gap: of 1 of 2 rows .* \(first: 'd'\); use another method"):
        DeltaLog.open(tmp_path / "deltas", KEY).check_covers(["c", "d"], "model m")


def test_what_was_subtracted_leaves_no_gap(log):
    change = Change("amnesiac", "N", 0, frozenset({"b"}), reads=frozenset({"deltas"}))
    assert log.passed_on(change).stale == ""
    log.check_covers(["c", "e"], "m")
    log.check_whole("N", "m")
    assert not log.index.lost


def test_rows_of_no_step_are_refused(log):
    with pytest.raises(DataError, match=r"1 of 2 rows to forget are in no step of the delta log of m \(first: 'z'\)"):
        log.check_covers(["a", "z"], "m")


def test_a_missing_a_damaged_and_a_foreign_log_are_one_line_each(log, tmp_path):
    log.check_whole("M", "m")
    with pytest.raises(ModelError, match="the delta log of m is of other weights than those beside it"):
        log.check_whole("N", "m")
    with pytest.raises(ModelError, match="m has no delta log; learn with --record deltas"):
        DeltaLog.open(tmp_path / "none", KEY).check_whole("M", "m")
    path = tmp_path / "deltas" / record_name(2)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(ModelError, match=rf"has a gap: {record_name(2)} is damaged"):
        DeltaLog.open(tmp_path / "deltas", KEY).check_whole("M", "m")
    path.unlink()
    with pytest.raises(ModelError, match=rf"has a gap: {record_name(2)} is missing; bring it back"):
        DeltaLog.open(tmp_path / "deltas", KEY).check_whole("M", "m")


def test_another_key_is_refused(log, tmp_path):
    with pytest.raises(ModelError, match="was recorded with another key"):
        DeltaLog.open(tmp_path / "deltas", MarkKey(b"o" * 32))


def test_a_damaged_index_is_one_line(log, tmp_path):
    path = tmp_path / "deltas" / DELTA_INDEX
    path.write_text(path.read_text().replace('"model": "M"', '"model": "N"'))
    with pytest.raises(ModelError, match=r"index\.json is damaged; delete"):
        DeltaLog.open(tmp_path / "deltas", KEY)


def test_a_purge_that_dies_half_way_still_holds_and_goes_on(log, tmp_path, monkeypatch):
    """The index is new, the files are still there: they no longer count, and the next purge takes them."""

    def dies(_folder: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(delta_log.Path, "unlink", lambda *_a, **_k: dies(tmp_path))
    with pytest.raises(KeyboardInterrupt):
        log.forget(["b"])
    monkeypatch.undo()
    again = DeltaLog.open(tmp_path / "deltas", KEY)
    assert len(again.index.records) == 2
    assert again.holds(["b"]) == {"b"}
    assert sums(again.total_of("abcde")) == [10.0]
    again.forget(["b"])
    assert DeltaLog.open(tmp_path / "deltas", KEY).holds(["b", "a", "d"]) == frozenset()


def test_the_digest_is_of_what_counts_and_not_of_names(log, tmp_path):
    before = log.digest()
    other = write_log(tmp_path / "x" / "deltas", [*STEPS, ("q",)])
    assert other.digest() != before
    other.subtracted(["q"])
    assert other.digest() == before
    assert write_log(tmp_path / "y" / "deltas", STEPS).digest() == before
    log.forget(["e"])
    assert log.digest() != before
