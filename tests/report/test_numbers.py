from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palimpsest.report.numbers import count, interval, nice_ceiling, show


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
    assert show(value, decimals) == words


@given(st.floats(min_value=0, allow_nan=False))
def test_no_number_is_longer_than_six_characters(value: float) -> None:
    assert len(show(value)) <= 6


@given(st.floats(min_value=1e-3, max_value=1e200))
def test_what_is_shown_is_near(value: float) -> None:
    # 3 decimals below 10, then at least 4 significant digits, 1 or 2 beyond 1e5: off by at most half a unit.
    bound = 0.0005 if value < 10 else value * (5e-4 if value < 99999 else 0.5)
    assert abs(float(show(value)) - value) <= bound * 1.001


def test_interval_and_count() -> None:
    assert interval(0.25, 0.75, 2) == "[0.25, 0.75]"
    assert interval(None, 0.75) == ""
    assert count(1234567) == "1\u202f234\u202f567"


@given(st.floats(min_value=1e-6, max_value=1e12))
def test_nice_ceiling_is_tight_and_above(value: float) -> None:
    top = nice_ceiling(value)
    assert value * (1 - 1e-6) <= top <= value * 1.51
