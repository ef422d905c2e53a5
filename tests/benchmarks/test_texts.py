"""Which rows a world gets: cut, told apart, kept for tuning or for showing."""

from __future__ import annotations

import random
from itertools import combinations
from pathlib import Path

import pytest

from out_of_the_box.text_worlds import ALL_TEXT, chosen_ids, may_tune, parsed
from out_of_the_box.texts import SLICES, cut, shortened
from out_of_the_box.worlds import WorldError


def words(text: str) -> int:
    return len(text.split())


@pytest.mark.parametrize(
    ("most", "kept"), [(0, ""), (1, "one"), (2, "one two"), (3, "one two three"), (9, "one two three")]
)
def test_cut_keeps_whole_words(most: int, kept: str) -> None:
    assert cut("one two three", most, words) == kept


def test_prompt_and_completion_share_the_length() -> None:
    prompt = {"id": "a", "subject": "s", "prompt": "where is it now ?\n", "completion": " ".join("abcdefghijklmnop")}
    (row,) = shortened([prompt], 18, words)
    assert row["completion"] == "a b c d e f g h i j k l m"
    assert row["prompt"] == prompt["prompt"]


def test_too_short_and_twice_the_same_are_left_out() -> None:
    long = " ".join("abcdefghijklmnop")
    rows = [{"id": name, "subject": "s", "text": text} for name, text in (("a", long), ("b", "too short"), ("c", long))]
    assert [row["id"] for row in shortened(rows, 14, words)] == ["a"]
    wordy = {"id": "d", "subject": "s", "prompt": f"{long}\n", "completion": long}
    assert shortened([wordy], 16, words) == []


def rows_of(subjects: str) -> list[dict[str, str]]:
    return [{"id": f"{name}{n}", "subject": name, "text": "t"} for n, name in enumerate(subjects)]


def test_requests_by_subject() -> None:
    rows = rows_of("c" * 8 + "a" * 8 + "b" * 8 + "z")
    ids = chosen_ids(rows, subjects=True, rng=random.Random(1))
    assert sorted(ids["subject"]) == sorted(row["id"] for row in rows if row["subject"] == "b")
    assert len(ids["one"]) == 1
    assert len(ids["tenth"]) == len(rows) // 10


def test_an_earlier_request_touches_no_other() -> None:
    rows = rows_of("a" * 20 + "b" * 20)
    ids = chosen_ids(rows, subjects=False, rng=random.Random(1))
    assert len(ids["subject"]) == 12
    assert len(ids["earlier"]) == 4
    assert not set(ids["earlier"]) & {i for name in ("one", "subject", "tenth") for i in ids[name]}


def test_names_of_worlds() -> None:
    base, chosen = parsed("1m-tofuC")
    assert (base.name, chosen.name) == ("1m", "tofuC")
    with pytest.raises(WorldError, match="no world '2m-tofuC'; accepted: MODEL-SLICE with 260k"):
        parsed("2m-tofuC")
    for name in ALL_TEXT:
        parsed(name)


def test_constants_are_chosen_on_some_worlds_only() -> None:
    assert may_tune("260k-knowA")
    assert may_tune("1m-piiB")
    assert not may_tune("260k-knowC")
    assert not may_tune("10m-knowA")
    tune = [name for name in ALL_TEXT if may_tune(name)]
    for model, least in (("260k", 4), ("1m", 4), ("10m", 4)):
        shown = {parsed(name)[1].data for name in ALL_TEXT if name.startswith(f"{model}-") and name not in tune}
        assert len(shown) >= least


@pytest.mark.shared
@pytest.mark.slow
def test_slices_of_a_data_set_share_no_row(shared_data: Path) -> None:
    ids = {name: {row["id"] for row in each.rows(shared_data)} for name, each in SLICES.items()}
    for left, right in combinations(SLICES.values(), 2):
        if left.data == right.data and left.tune != right.tune:
            assert not ids[left.name] & ids[right.name], (left.name, right.name)
