"""Numbers of a bench against numbers worked by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palimpsest.bench.scores import Spread, differences, gap, spread

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


def test_spread_leaves_out_what_is_missing():
    assert spread([2.0, None, 4.0, 9.0]) == Spread(5.0, 2.0, 9.0, 3)
    assert spread([None]) is None
