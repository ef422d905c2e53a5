"""The entropy attack against scikit-learn's logistic regression."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palimpsest.errors import DataError
from palimpsest.metrics.per_set import set_metric
from palimpsest.metrics.per_set.entropy_attack import fit_balanced, mia_entropy

linear_model = pytest.importorskip("sklearn.linear_model")


def drawn(seed: int, members: int, others: int, shift: float) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.gamma(1.0, 0.1, members), rng.gamma(1.0, 0.1, others) + shift


@settings(max_examples=25)
@given(st.integers(0, 1000), st.integers(1, 60), st.integers(1, 60), st.sampled_from([-0.5, 0.0, 0.05, 1.0, 30.0]))
def test_the_fit_is_scikit_learn_s(seed, num_members, num_others, shift):
    members, others = drawn(seed, num_members, num_others, shift)
    reference = linear_model.LogisticRegression(class_weight="balanced", tol=1e-10, max_iter=10_000)
    labels = np.repeat([1, 0], [num_members, num_others])
    reference.fit(np.concatenate([members, others])[:, None], labels)
    weight, bias = fit_balanced(members, others)
    assert weight == pytest.approx(reference.coef_[0, 0], rel=1e-3, abs=1e-4)
    assert bias == pytest.approx(reference.intercept_[0], rel=1e-3, abs=1e-4)


def test_the_attack_is_scikit_learn_s():
    members, others = drawn(0, 300, 100, 0.1)
    forget = np.random.default_rng(1).gamma(1.0, 0.15, 80)
    reference = linear_model.LogisticRegression(class_weight="balanced", tol=1e-10)
    reference.fit(np.concatenate([members, others])[:, None], np.repeat([1, 0], [300, 100]))
    found = mia_entropy(members, others, forget)
    assert found.share == reference.predict(forget[:, None]).mean()
    assert 0 < found.low < found.share < found.high < 1
    hits = [reference.predict(values[:, None]) == label for values, label in ((members, 1), (others, 0))]
    assert found.power == pytest.approx(np.mean([h.mean() for h in hits]))
    assert found.n == 80


@pytest.mark.parametrize(("level", "share"), [(0.0, 1.0), (2.0, 0.0)])
def test_what_is_as_sure_as_training_data_is_called_a_member(level, share):
    rng = np.random.default_rng(0)
    found = mia_entropy(rng.normal(0.0, 0.1, 50), rng.normal(2.0, 0.1, 50), np.full(10, level))
    assert (found.share, found.power) == (share, 1.0)


def test_an_attack_that_tells_nothing_says_so():
    same = np.random.default_rng(0).gamma(1.0, 0.1, 500)
    assert mia_entropy(same[:400], same[400:], same).power == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize(
    ("sets", "words"),
    [
        (([], [1.0], [1.0]), "members has 0 entropies"),
        (([1.0], [1.0], []), "forget has 0 entropies"),
        (([1.0], [float("nan")], [1.0]), "nonmembers has 1 entropies; accepted: at least one, all finite"),
    ],
)
def test_refusals(sets, words):
    with pytest.raises(DataError, match=words):
        mia_entropy(*map(np.array, sets))


def test_by_hand_as_a_metric_of_sets():
    """Members at 0 and 1, others at 6 and 7: the border is 3.5, and one of 2 and 5 lies on the members' side."""
    columns = {"retain": np.array([0.0, 1.0]), "test": np.array([6.0, 7.0]), "forget": np.array([2.0, 5.0])}
    score = set_metric("mia_entropy").compute(columns)
    assert (score.metric, score.value, score.n, score.version) == ("mia_entropy", 0.5, 2, 1)
    assert score.low <= 0.5 <= score.high
