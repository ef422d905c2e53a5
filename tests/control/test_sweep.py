"""Which rate a sweep settles on."""

from __future__ import annotations

import math

import pytest

from palimpsest.control.sweep import HIGHEST, Trial, first_rate, next_rate


def test_the_largest_within_the_floors_and_at_most_half_the_crossing():
    trials = [Trial(1e-4, 0.1, False, 0.1), Trial(2e-4, 0.5, False, 0.2), Trial(4e-4, 0.9, True, 1.0)]
    assert first_rate(trials, 4.0) == (2e-4, 4e-4)
    within = [Trial(1e-4, 0.1, False, 0.1), Trial(2e-4, 1.5, False, 0.2), Trial(4e-4, 9, True, 1)]
    assert first_rate(within, 4.0) == (1e-4, 4e-4)


def test_without_any_within_a_quarter_of_the_smallest_that_moved():
    trials = [Trial(1e-6, 2.0, False, 0.0), Trial(4e-6, 3.0, False, 0.5), Trial(8e-6, math.inf, True, math.inf)]
    assert first_rate(trials, 4.0) == (1e-6, 4e-6)


def test_nothing_that_ever_breaks_ends_at_half_the_highest():
    rate, ceiling = first_rate([Trial(HIGHEST, 0.0, False, 1.0)], 4.0)
    assert (rate, ceiling) == (HIGHEST / 2, HIGHEST)


@pytest.mark.parametrize(("moved", "factor"), [(0.0, 4), (0.1, 2)])
def test_steps_are_wide_while_nothing_moves(moved, factor):
    assert next_rate(Trial(1e-5, 0.0, False, moved)) == pytest.approx(factor * 1e-5)
