"""Relapse in extraction strength: a share, of the same rises."""

from __future__ import annotations

import pytest

from palimpsest.metrics.per_stream import Course
from palimpsest.metrics.per_stream.relapse_strength import RelapseStrength


def test_by_hand():
    forgotten = [{"s": {"a": 0.1}}, {"s": {"a": 0.3}}, {"s": {"a": 0.2}}]
    assert RelapseStrength().compute(Course([], forgotten)) == pytest.approx(0.2)
    assert RelapseStrength().of == "strength"


@pytest.mark.parametrize("forgotten", [[], [{}], [{"s": {"a": 0.1}}]])
def test_nothing_later_is_none(forgotten):
    assert RelapseStrength().compute(Course([], forgotten)) is None
