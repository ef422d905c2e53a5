from __future__ import annotations

import math

import numpy as np
import pytest

from palimpsest.metrics.evaluate import evaluate
from palimpsest.metrics.metric import Statistics
from palimpsest.metrics.ppl import PPL


@pytest.mark.parametrize(
    ("statistics", "each", "together"),
    [([(math.log(8), 3), (math.log(2), 1)], (2.0, 2.0), 2.0), ([(math.log(8), 1), (0.0, 2)], (8.0, 1.0), 2.0)],
)
def test_hand_worked_examples(statistics, each, together):
    score = PPL().compute({str(k): Statistics(*pair) for k, pair in enumerate(statistics)})
    assert tuple(score.by_id.values()) == pytest.approx(each)
    assert score.value == pytest.approx(together)


def test_a_certain_model_has_perplexity_one(facts_of):
    assert PPL().compute({"x": PPL().update(facts_of([True, True]))}).value == 1.0


def test_a_hopeless_model_stays_finite(facts_of):
    score = PPL().compute({k: PPL().update(facts_of([False], logp=[-3000.0])) for k in "xy"})
    assert 1e304 < score.value < math.inf
    assert np.isfinite([score.low, score.high]).all()


def test_without_labels_it_is_unscored(facts_of):
    assert PPL().update(facts_of([])) is None


def test_equals_the_loss_of_transformers(half_learned, texts, as_set):
    score = evaluate(half_learned, as_set(texts.tolist()), [PPL()]).scores["ppl"]
    for k, row in enumerate(texts):
        loss = half_learned(row[None], labels=row[None]).loss.item()
        assert score.by_id[f"x{k}"] == pytest.approx(math.exp(loss), rel=1e-5)
    whole = half_learned(texts, labels=texts).loss.item()
    assert score.value == pytest.approx(math.exp(whole), rel=1e-5)


def test_interval_resamples_the_ratio_of_sums():
    statistics = {str(k): Statistics(nll, size) for k, (nll, size) in enumerate([(1.0, 1.0), (2.0, 8.0), (9.0, 3.0)])}
    score = PPL().compute(statistics, seed=3)
    pairs, rng = np.array([(1.0, 1.0), (2.0, 8.0), (9.0, 3.0)]), np.random.default_rng(3)
    drawn = [pairs[rng.integers(0, 3, 3)] for _ in range(1000)]
    ratios = [math.exp(sum(p[0] for p in d) / sum(p[1] for p in d)) for d in drawn]
    assert (score.low, score.high) == pytest.approx(tuple(np.percentile(ratios, [2.5, 97.5])))
