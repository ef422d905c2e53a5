"""Numbers of a bench against numbers worked by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palimpsest.bench.scores import Spread, average_accuracy, differences, forgetting, gap, relapse, spread

POINTS = st.floats(0, 100)


def test_gap_is_the_mean_of_what_both_have():
    # LA 90 and 100, UA 5 and 20, TA only of one, MIA of none: (10 + 15) / 2.
    method = {"LA": 90.0, "UA": 5.0, "TA": 60.0, "MIA": None}
    oracle = {"LA": 100.0, "UA": 20.0, "TA": None, "MIA": None}
    assert differences(method, oracle) == {"LA": -10.0, "UA": -15.0}
    assert gap(method, oracle) == 12.5


def test_gap_without_components_is_none_and_not_zero():
    assert gap({"LA": None}, {"LA": 3.0}) is None


@given(st.dictionaries(st.sampled_from("abcde"), POINTS, min_size=1), st.floats(-50, 50))
def test_gap_of_a_shift_is_its_size(values, shift):
    moved = {name: value + shift for name, value in values.items()}
    assert gap(moved, values) == pytest.approx(abs(shift))


def test_accuracy_counts_only_what_is_kept():
    assert average_accuracy([{"0": 100.0}, {"0": 80.0, "1": 90.0}, {"1": 96.0}]) == 91.5
    assert average_accuracy([{}]) is None


def test_forgetting_compares_the_same_examples():
    # Task 0 loses its easy example a; of b and c nothing changes, then one is forgotten.
    easy, rest = {"a": 1.0}, {"b": 0.0, "c": 1.0}
    assert forgetting([{"0": {**easy, **rest}}, {"0": rest}, {"0": rest}]) == 0
    assert forgetting([{"0": rest}, {"0": {"b": 0.0, "c": 0.0}}]) == 0.25  # 0 and 1/2, over two pairs
    assert forgetting([{"0": easy}, {"0": easy, "1": {"d": 0.5}}, {"1": {"d": 1.0}}]) == -0.125  # 0, 0, 0, -1/2
    assert forgetting([{}]) is None


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        ([{"a": 0.1}, {"a": 0.3}, {"a": 0.2}], 0.2),
        ([{"a": 0.1, "b": 1.0}, {"a": 0.1}], 0.0),
        ([{"a": 0.5}, {"a": 0.25}], -0.25),
        ([{"a": 0.1}], None),
        ([], None),
        ([{"a": 0.1}, {}], None),
    ],
)
def test_relapse_is_the_highest_later_rise_of_what_is_still_forgotten(after, expected):
    assert relapse(after) == (None if expected is None else pytest.approx(expected))


def test_spread_leaves_out_what_is_missing():
    assert spread([2.0, None, 4.0, 9.0]) == Spread(5.0, 2.0, 9.0, 3)
    assert spread([None]) is None
