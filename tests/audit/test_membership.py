"""The entropy attack against scikit-learn's logistic regression, and entropies against their definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.data.test_image import some
from tests.models.test_resnet import tiny

from palimpsest.audit.membership import entropies, entropy, fit_balanced, mia_entropy
from palimpsest.data.encode.augment import Augmentation
from palimpsest.data.encode.batch import TextSet, TokenSequence
from palimpsest.errors import DataError

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


def test_entropy_by_hand():
    """Of 1/2, 1/4, 1/4 it is 1.5 ln 2; of a sure prediction 0; of an impossible class nothing."""
    logits = torch.tensor([[0.5, 0.25, 0.25], [1.0, 0.0, 0.0]]).log()
    assert entropy(logits).tolist() == pytest.approx([1.5 * np.log(2), 0.0])


def test_entropies_of_images_equal_a_loop_and_leave_no_trace():
    model, examples = tiny().train(), some(5, augment=Augmentation())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = entropies(model, examples, batch_size=2)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    for example_id, value in found.items():
        p = model.eval()(pixel_values=examples.plain().batch([example_id]).images_BCHW).logits[0].double().softmax(0)
        assert value == pytest.approx(-(p * p.log()).sum().item(), rel=1e-4)
    assert list(found) == list(examples.ids)


def test_entropies_of_texts_are_means_over_label_tokens(tiny_llama):
    rows = {"a": (5, 6, 7, 8), "b": (9, 10, 11)}
    examples = TextSet([TokenSequence(i, row, (False, False, *[True] * (len(row) - 2))) for i, row in rows.items()], 0)
    found = entropies(tiny_llama, examples)
    for example_id, row in rows.items():
        p_TV = tiny_llama(torch.tensor([row])).logits[0, 1:-1].double().softmax(-1)
        assert found[example_id] == pytest.approx(-(p_TV * p_TV.log()).sum(-1).mean().item(), rel=1e-4)
