from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from palimpsest.metrics.statistics import bootstrap, paired_difference


def test_same_seed_same_interval_other_seed_other_interval():
    values = np.random.default_rng(0).random(30)
    assert bootstrap(values, seed=1) == bootstrap(values, seed=1)
    assert bootstrap(values, seed=1) != bootstrap(values, seed=2)


def test_agrees_with_a_plain_loop():
    values = np.random.default_rng(0).random(12)
    rng = np.random.default_rng(5)
    means = sorted(np.mean([values[i] for i in rng.integers(0, 12, 12)]) for _ in range(400))
    low, high = bootstrap(values, seed=5, resamples=400, level=0.9)
    assert (low, high) == pytest.approx((np.percentile(means, 5), np.percentile(means, 95)))


def test_agrees_with_the_normal_interval_on_a_large_sample():
    values = np.random.default_rng(0).normal(3.0, 2.0, 4000)
    half_width = 1.96 * values.std() / np.sqrt(len(values))
    low, high = bootstrap(values, seed=0, resamples=4000)
    assert (low, high) == pytest.approx((values.mean() - half_width, values.mean() + half_width), abs=0.1 * half_width)


def test_drawing_in_pieces_changes_nothing(monkeypatch):
    values = np.random.default_rng(0).random(40)
    whole = bootstrap(values, resamples=100)
    monkeypatch.setattr("palimpsest.metrics.statistics._ELEMENTS", 90)
    assert bootstrap(values, resamples=100) == whole


def test_statistic_over_several_numbers_per_example():
    values = np.array([[1.0, 2.0], [3.0, 6.0], [5.0, 10.0]])
    assert bootstrap(values, lambda drawn: drawn[..., 0].sum(-1) / drawn[..., 1].sum(-1)) == (0.5, 0.5)


@pytest.mark.parametrize("values", [[], [1.0]])
def test_nothing_is_known_of_the_spread_of_fewer_than_two(values):
    assert bootstrap(values) == (None, None)


def test_paired_difference_uses_only_ids_scored_in_both():
    a = {"x": 1.0, "y": 0.5, "z": None, "only a": 9.0}
    b = {"x": 0.0, "y": 0.25, "z": 1.0, "only b": -9.0}
    difference, low, high, n = paired_difference(a, b)
    assert (difference, n) == (0.625, 2)
    assert 0.25 <= low < high <= 1.0


def test_paired_difference_without_common_ids():
    assert paired_difference({"x": 1.0}, {"y": 1.0}) == (None, None, None, 0)


def test_pairing_is_narrower_than_two_intervals():
    rng = np.random.default_rng(0)
    base = rng.random(50)
    a = {str(k): float(v) for k, v in enumerate(base)}
    b = {str(k): float(v - 0.1 + 0.01 * rng.random()) for k, v in enumerate(base)}
    difference, low, high, _ = paired_difference(a, b)
    assert 0.09 < low < difference < high < 0.1


def test_does_not_import_torch():
    code = "import sys, palimpsest.metrics.statistics as s; s.bootstrap([0.0, 1.0]); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
