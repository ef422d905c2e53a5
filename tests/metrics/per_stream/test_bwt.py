"""Backward transfer: by hand, from the first reading, over the same examples."""

from __future__ import annotations

import pytest

from palimpsest.metrics.per_stream import Course
from palimpsest.metrics.per_stream.bwt import BWT


def test_by_hand(field):
    assert BWT().compute(field) == pytest.approx((-30 - 10 - 7) / 3)


def test_from_where_it_was_taught_whatever_came_between(course):
    """Task 0 goes 50, 90, 60: 10 more than when it was taught."""
    assert BWT().compute(course([(50,), (90, 80), (60, 80, 70)])) == pytest.approx((10 + 0) / 2)


def test_the_last_task_is_left_out(course):
    assert BWT().compute(course([(50,)])) is None
    assert BWT().compute(Course([], [])) is None


def test_the_same_examples_are_compared():
    assert BWT().compute(Course([{"a": {"easy": 1.0, "hard": 0.0}}, {"a": {"hard": 0.5}}], [])) == 50
