from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palimpsest.in_words import exact
from palimpsest.in_words import show as written
from palimpsest.report.numbers import count, interval_or_nothing, nice_ceiling, percent, several, show_or_dash


@pytest.mark.parametrize(
    ("value", "decimals", "words"),
    [
        (0.98, 3, "0.980"),
        (0.98, 2, "0.98"),
        (9.9994, 3, "9.999"),
        (9.9996, 3, "10.00"),
        (12.344, 3, "12.34"),
        (99999.4, 2, "99999"),
        (99999.6, 2, "1.0e5"),
        (1.25e12, 2, "1e12"),
        (-0.5, 2, "-0.50"),
        (16.0, 0, "16"),
        (math.inf, 3, "inf"),
        (math.nan, 3, "nan"),
        (None, 3, "–"),
    ],
)
def test_show(value: float | None, decimals: int, words: str) -> None:
    assert show_or_dash(value, decimals) == words


@given(st.floats(min_value=0, allow_nan=False))
def test_no_number_is_longer_than_six_characters(value: float) -> None:
    assert len(show_or_dash(value)) <= 6


@given(st.floats(min_value=1e-3, max_value=1e200))
def test_what_is_shown_is_near(value: float) -> None:
    # 2 decimals below 10, 1 below 100, none above, 1 or 2 digits beyond 1e5: off by at most half a unit.
    bound = 0.005 if value < 10 else 0.05 if value < 100 else 0.5 if value < 99999 else value * 0.5
    assert abs(float(show_or_dash(value)) - value) <= bound * 1.001


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0.00842, "0.01"),
        (0.0049, "0.00"),
        (1.754, "1.75"),
        (16.23, "16.2"),
        (9.996, "10.0"),
        (99.96, "100"),
        (-0.001, "0.00"),
    ],
)
def test_two_digits_is_the_rule(value: float, words: str) -> None:
    assert show_or_dash(value) == written(value) == words


@pytest.mark.parametrize(("value", "words"), [(0.07, "+0.07"), (-0.00264, "0.00"), (-0.04, "-0.04"), (0.0, "0.00")])
def test_a_difference_has_a_sign_unless_it_is_nothing(value: float, words: str) -> None:
    assert written(value, signed=True) == words


def test_a_bound_is_never_rounded_away() -> None:
    assert [exact(v) for v in (0.1, 0.001, 1.1, 0.125)] == ["0.10", "0.001", "1.10", "0.125"]


def test_one_thing_is_not_many() -> None:
    assert [several(n, "row") for n in (0, 1, 1203)] == ["0 rows", "1 row", "1\u202f203 rows"]
    assert [percent(share) for share in (0.0244, 0.515, 1.559)] == ["2.4\u00a0%", "52\u00a0%", "156\u00a0%"]


def test_interval_and_count() -> None:
    assert interval_or_nothing(0.25, 0.75, 2) == "[0.25, 0.75]"
    assert interval_or_nothing(None, 0.75) == ""
    assert count(1234567) == "1\u202f234\u202f567"


@given(st.floats(min_value=1e-6, max_value=1e12))
def test_nice_ceiling_is_tight_and_above(value: float) -> None:
    top = nice_ceiling(value)
    assert value * (1 - 1e-6) <= top <= value * 1.51
