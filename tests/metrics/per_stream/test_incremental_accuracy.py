"""Average incremental accuracy, by hand: over examples, so that a large task counts for more."""

from __future__ import annotations

import pytest

from palimpsest.metrics.per_stream import Course
from palimpsest.metrics.per_stream.incremental_accuracy import IncrementalAccuracy

SMALL, LARGE = {"a": 1.0}, {"b": 1.0, "c": 1.0, "d": 0.0}
TAUGHT = Course([{"one": SMALL}, {"one": {"a": 0.0}, "two": LARGE}], [])


def test_it_is_over_the_examples_of_all_tasks_so_far():
    assert IncrementalAccuracy().compute(TAUGHT) == pytest.approx((100 + 50) / 2)


def test_a_request_after_which_nothing_is_known_is_in_no_mean():
    assert IncrementalAccuracy().compute(Course([{"one": SMALL}, {}], [])) == 100
    assert IncrementalAccuracy().compute(Course([], [])) is None
