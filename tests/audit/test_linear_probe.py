"""The linear probe: against plain gradient descent on its loss, folds apart, what it cannot be asked."""

from __future__ import annotations

import numpy as np
import pytest

from palimpsest.audit.linear_probe import fit_probe, probe

RNG = np.random.default_rng(0)
CLASS, OTHERS = RNG.normal(0.6, 1, (12, 5)), RNG.normal(-0.2, 1, (30, 5))


def test_it_is_the_minimum_of_its_loss_as_plain_descent_finds_it():
    features = np.concatenate([CLASS, OTHERS])
    middle, scale = features.mean(0), features.std(0)
    w, b = np.zeros(5), 0.0
    for _ in range(8000):
        slope_w, slope_b = w.copy(), 0.0
        for n, row in enumerate((features - middle) / scale):
            y, share = (1, 42 / 24) if n < 12 else (-1, 42 / 60)
            pull = share * y / (1 + np.exp(y * (row @ w + b)))
            slope_w, slope_b = slope_w - pull * row, slope_b - pull
        w, b = w - 0.02 * slope_w, b - 0.02 * slope_b
        if max(abs(slope_w).max(), abs(slope_b)) < 1e-7:
            break
    weight, bias = fit_probe(CLASS, OTHERS)
    assert weight * scale == pytest.approx(w, abs=1e-5)
    assert bias + weight @ middle == pytest.approx(b, abs=1e-5)


def test_each_half_is_scored_by_the_probe_of_the_other():
    fold_class, fold_others = np.arange(12) % 2, np.arange(30) % 2
    found = probe(CLASS, OTHERS, fold_class, fold_others)
    hits = alarms = 0
    for half in (0, 1):
        weight, bias = fit_probe(CLASS[fold_class != half], OTHERS[fold_others != half])
        hits += sum(float(row @ weight + bias) > 0 for row in CLASS[fold_class == half])
        alarms += sum(float(row @ weight + bias) > 0 for row in OTHERS[fold_others == half])
    assert found.recall == pytest.approx(hits / 12)
    assert found.false == pytest.approx(alarms / 30)


def test_more_features_than_rows_and_a_feature_that_never_changes():
    wide = np.concatenate([CLASS, np.ones((12, 1)), RNG.normal(0, 1, (12, 60))], axis=1)
    rest = np.concatenate([OTHERS, np.ones((30, 1)), RNG.normal(0, 1, (30, 60))], axis=1)
    weight, bias = fit_probe(wide, rest)
    assert np.isfinite([*weight, bias]).all()
    assert weight[5] == pytest.approx(0, abs=1e-9)


def test_features_that_tell_nothing_are_called_at_chance():
    found = probe(np.zeros((4, 2)), np.zeros((6, 2)), np.arange(4) % 2, np.arange(6) % 2)
    assert found.recall == found.false


def test_a_half_without_a_row_is_no_answer():
    assert probe(CLASS[:1], OTHERS, np.zeros(1), np.arange(30) % 2) is None
