"""The power of the attack: right on both sides, on neither more than chance."""

from __future__ import annotations

import numpy as np
import pytest

from palimpsest.metrics.per_set import set_metric


def power(members: list[float], others: list[float]) -> float:
    columns = {"retain": np.array(members), "test": np.array(others), "forget": np.array([0.0])}
    return set_metric("mia_power").compute(columns).value


@pytest.mark.parametrize(
    ("members", "others", "value"),
    [([0.0, 1.0], [6.0, 7.0], 1.0), ([0.0, 0.1, 0.2, 9.0], [8.0, 8.1], 0.875), ([1.0, 1.0], [1.0, 1.0], 0.5)],
)
def test_by_hand(members, others, value):
    assert power(members, others) == value


def test_it_says_how_many_it_was_fitted_to():
    columns = {"retain": np.zeros(3), "test": np.ones(2), "forget": np.zeros(7)}
    assert set_metric("mia_power").compute(columns).n == 5
