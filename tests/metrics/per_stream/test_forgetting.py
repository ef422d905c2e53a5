"""Forgetting as the field has it: by hand, against its best, over the same examples."""

from __future__ import annotations

import pytest

from palimpsest.metrics.per_stream import Course
from palimpsest.metrics.per_stream.forgetting import Forgetting


def test_by_hand(field):
    assert Forgetting().compute(field) == pytest.approx((30 + 10 + 7) / 3)


def test_the_best_earlier_value_counts_and_not_the_first(course):
    """Task 0 goes 50, 90, 60: 30 from its best. From where it was taught it even rose."""
    assert Forgetting().compute(course([(50,), (90, 80), (60, 80, 70)])) == pytest.approx((30 + 0) / 2)


def test_a_rise_is_negative_and_the_last_task_is_left_out(course):
    assert Forgetting().compute(course([(50,), (75, 10)])) == pytest.approx(-25)
    assert Forgetting().compute(course([(50,)])) is None


def test_the_same_examples_are_compared():
    """The easy example is forgotten on request; of the other nothing changed."""
    taught = [{"a": {"easy": 1.0, "hard": 0.0}}, {"a": {"hard": 0.0}}]
    assert Forgetting().compute(Course(taught, [])) == 0
    assert Forgetting().compute(Course([{"a": {"easy": 1.0}}, {"a": {"other": 1.0}}], [])) is None
