"""Final average accuracy: by hand, of what is left, of nothing."""

from __future__ import annotations

import pytest

from palimpsest.metrics.per_stream import Course
from palimpsest.metrics.per_stream.final_accuracy import FinalAccuracy


def test_by_hand(field):
    assert FinalAccuracy().compute(field) == pytest.approx(79.5)


def test_only_what_is_known_at_the_end_counts():
    taught = [{"a": {"x": 1.0, "y": 0.0}, "b": {"z": 0.0}}, {"a": {"x": 1.0}}]
    assert FinalAccuracy().compute(Course(taught, [])) == 100


@pytest.mark.parametrize("taught", [[], [{}], [{"a": {"x": 1.0}}, {}]])
def test_nothing_known_is_none_and_not_zero(taught):
    assert FinalAccuracy().compute(Course(taught, [])) is None
