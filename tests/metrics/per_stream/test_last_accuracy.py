"""Last accuracy, by hand: over examples, so that a large task counts for more."""

from __future__ import annotations

import pytest

from palimpsest.metrics.per_stream import Course
from palimpsest.metrics.per_stream.final_accuracy import FinalAccuracy
from palimpsest.metrics.per_stream.last_accuracy import LastAccuracy

LARGE = {"b": 1.0, "c": 1.0, "d": 0.0}
TAUGHT = Course([{"one": {"a": 1.0}}, {"one": {"a": 0.0}, "two": LARGE}], [])


def test_it_is_over_the_examples_of_all_tasks():
    assert LastAccuracy().compute(TAUGHT) == pytest.approx(50)
    assert FinalAccuracy().compute(TAUGHT) == pytest.approx(100 / 3)  # over tasks it is another number


def test_nothing_known_at_the_end_is_none():
    assert LastAccuracy().compute(Course([{"one": {"a": 1.0}}, {}], [])) is None
