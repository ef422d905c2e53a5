"""Relapse in accuracy: the highest later rise of any forget set."""

from __future__ import annotations

import pytest

from palimpsest.metrics.per_stream import Course
from palimpsest.metrics.per_stream.relapse_accuracy import RelapseAccuracy


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        ([{"a": 0.1}, {"a": 0.3}, {"a": 0.2}], 20.0),
        ([{"a": 0.1, "b": 1.0}, {"a": 0.1}], 0.0),
        ([{"a": 0.5}, {"a": 0.25}], -25.0),
        ([{"a": 0.1}], None),
        ([], None),
        ([{"a": 0.1}, {}], None),
    ],
)
def test_it_is_the_highest_later_rise_of_what_is_still_forgotten(after, expected):
    value = RelapseAccuracy().compute(Course([], [{"s": values} for values in after]))
    assert value == (None if expected is None else pytest.approx(expected))


def test_the_worst_of_the_forget_sets_counts():
    forgotten = [{"s": {"a": 0.2}}, {"s": {"a": 0.1}, "t": {"b": 0.2}}, {"s": {"a": 0.1}, "t": {"b": 0.6}}]
    assert RelapseAccuracy().compute(Course([], forgotten)) == pytest.approx(40)
