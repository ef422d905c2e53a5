"""Class statistics: marks, refusals, what a purge by ids alone takes along."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from palimpsest.companions.class_statistics import ClassRecord, ClassStatistics, write_class_record
from palimpsest.companions.companion import Change
from palimpsest.companions.marks import MarkKey
from palimpsest.errors import DataError, ModelError
from palimpsest.models.class_features import SeenRows
from palimpsest.models.class_sums import ClassSums, KeptMoments

KEY = MarkKey(b"k" * 32)


def seen(ids: Sequence[str], labels: Sequence[int], content: str = "says") -> SeenRows:
    """Rows whose features are their numbers."""
    features = torch.arange(2.0 * len(ids)).reshape(-1, 2)
    return SeenRows(tuple(ids), tuple(f"{i} {content}" for i in ids), torch.tensor(labels), features)


def record(
    ids: Sequence[str], labels: Sequence[int], key: MarkKey = KEY, moments: KeptMoments = "class"
) -> ClassRecord:
    return ClassRecord(ClassSums.empty(2, 0, moments), {}, "backbone", "", key).add(seen(ids, labels))


def plant(place: Path, key: MarkKey, ids: Sequence[str]) -> None:
    """For the battery: these rows are of one class, another is of another."""
    write_class_record(place, record([*ids, "another"], [0] * len(ids) + [1], key))


@pytest.fixture
def three(tmp_path) -> ClassStatistics:
    """Rows a and b of class 0, c of class 2."""
    write_class_record(tmp_path / "s", record(["a", "b", "c"], [0, 0, 2]))
    return ClassStatistics.open(tmp_path / "s", KEY)


def test_read_back_it_is_the_same(three) -> None:
    there, made = three.record(), record(["a", "b", "c"], [0, 0, 2])
    assert torch.equal(there.sums.square_FGDD, made.sums.square_FGDD)
    assert (there.rows, there.backbone, there.sums.moments) == (made.rows, "backbone", "class")
    assert there.mean_CD.tolist() == [[1, 2], [0, 0], [4, 5]]


def test_what_is_taken_out_was_never_there(three) -> None:
    rows = seen(["a", "b", "c"], [0, 0, 2])
    one = rows._replace(ids=("b",), contents=("b says",), label_N=rows.label_N[1:2], features_NM=rows.features_NM[1:2])
    left = three.record().take_out(one)
    assert left.mean_CD.tolist() == [[0, 1], [0, 0], [4, 5]]
    assert left.rows.keys() == {KEY.of_id("a"), KEY.of_id("c")}


def test_a_stranger_another_content_and_the_last_class_are_refused(three) -> None:
    with pytest.raises(DataError, match="1 row to delete, first 'x', was never counted"):
        three.record().take_out(seen(["x"], [0]))
    with pytest.raises(DataError, match="row 'a' was learned with another content"):
        three.record().take_out(seen(["a"], [0], "says otherwise"))
    with pytest.raises(DataError, match="no row of any class would be left"):
        three.record().take_out(seen(["a", "b", "c"], [0, 0, 2]))
    with pytest.raises(DataError, match="never counted in the class statistics of model v"):
        three.check_covers(["a", "x"], "model v")


def test_a_purge_by_ids_alone_takes_the_sums_of_the_class(three) -> None:
    found = three.forget(["b"])
    assert (found.ids, found.records) == ({"b"}, 2)
    assert "1 other row can no longer be deleted" in found.stale
    left = three.record()
    assert left.present_C.tolist() == [False, False, True]
    assert not left.sums.square_FGDD[0, 0].any()
    assert three.holds(["a", "b", "c"]) == {"c"}


def test_a_class_that_goes_whole_makes_nothing_stale(three) -> None:
    assert three.forget(["a", "b"]).stale == ""


def test_pooled_moments_go_whole(tmp_path) -> None:
    write_class_record(tmp_path / "s", record(["a", "c"], [0, 1], moments="pooled"))
    there = ClassStatistics.open(tmp_path / "s", KEY)
    assert there.forget(["a"]).records == 2
    assert not there.record().sums.square_FGDD.any()
    assert there.holds(["c"]) == frozenset()


def test_it_goes_on_only_beside_a_version_that_counted(three) -> None:
    assert three.stale_after(Change("simple_cil", "m", 0, recorded=frozenset({"class_statistics"}))) == ""
    assert "did not go on counting" in three.stale_after(Change("random_edit", "m", 0))


def test_damage_and_another_key_are_refused(three) -> None:
    with pytest.raises(ModelError, match="another key"):
        ClassStatistics.open(three.folder, MarkKey(b"j" * 32))
    path = three.folder / "statistics.safetensors"
    assert three.damage() == ""
    path.write_bytes(path.read_bytes()[: os.path.getsize(path) - 3])
    assert "damaged" in three.damage()
    with pytest.raises(ModelError, match="is damaged"):
        ClassStatistics.open(three.folder, KEY)
