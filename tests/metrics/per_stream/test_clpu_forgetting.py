"""CLPU's F: by hand, over the same examples."""

from __future__ import annotations

import pytest

from palimpsest.metrics.per_stream import Course
from palimpsest.metrics.per_stream.clpu_forgetting import CLPUForgetting

EASY, REST = {"a": 1.0}, {"b": 0.0, "c": 1.0}


def test_by_hand(field):
    assert CLPUForgetting().compute(field) == pytest.approx(9.0)


@pytest.mark.parametrize(
    ("taught", "value"),
    [
        ([{"0": {**EASY, **REST}}, {"0": REST}, {"0": REST}], 0),  # the easy one goes; of the rest nothing changes
        ([{"0": REST}, {"0": {"b": 0.0, "c": 0.0}}], 25),  # 0 and 1/2, over two pairs
        ([{"0": EASY}, {"0": EASY, "1": {"d": 0.5}}, {"1": {"d": 1.0}}], -12.5),  # 0, 0, 0, -1/2
        ([{}], None),
    ],
)
def test_it_compares_the_same_examples(taught, value):
    assert CLPUForgetting().compute(Course(taught, [])) == value
