"""CLPU's A: by hand, and of what is kept."""

from __future__ import annotations

import pytest

from palimpsest.metrics.per_stream import Course
from palimpsest.metrics.per_stream.clpu_accuracy import CLPUAccuracy


def test_by_hand(field):
    assert CLPUAccuracy().compute(field) == pytest.approx(81.3)


def test_it_counts_only_what_is_kept():
    taught = [{"0": {"x": 1.0}}, {"0": {"x": 0.8}, "1": {"y": 0.9}}, {"1": {"y": 0.96}}]
    assert CLPUAccuracy().compute(Course(taught, [])) == pytest.approx(91.5)
    assert CLPUAccuracy().compute(Course([{}], [])) is None
