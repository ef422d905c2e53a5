"""Worked by hand on the skewed table: ∂ log p(y) / ∂ logits = onehot(y) − (0.8, 0.2), all labels follow token 0.

Row a, labels 0, 0: 2·(0.2, −0.2), squares 0.16. Row b, label 1: (−0.8, 0.8), squares 0.64. Over 3 positions: 0.8 / 3.
The Fisher as defined, at labels drawn from the model, is p (1 − p) = 0.16.
"""

import pytest
import torch
from tests.data.test_image import some
from tests.models.test_resnet import tiny

from palimpsest import methods
from palimpsest.contract import Phase
from palimpsest.data.encode.augment import Augmentation
from palimpsest.data.encode.batch import TextSet, TokenSequence
from palimpsest.errors import PlanError
from palimpsest.methods.ewc import EWC, EWCConfig

PHASE = Phase("learn", ("learn",))


def row(name, *tokens):
    return TokenSequence(name, tokens, (False,) + (True,) * (len(tokens) - 1))


@pytest.fixture
def memory():
    return TextSet([row("a", 0, 0, 0), row("b", 0, 1)], pad_id=0)


def prepared(model, memory, **options):
    method = EWC(EWCConfig(**options))
    method.prepare(model, {"learn": memory, "retain": memory})
    return method


def test_empirical_fisher_by_hand(skewed, memory):
    method = prepared(skewed, memory, labels="data")
    by_hand = torch.tensor([[0.8 / 3, 0.8 / 3], [0.0, 0.0]])
    assert torch.allclose(method.fisher["table"], by_hand, atol=1e-6)
    assert skewed.table.grad is None


def test_fisher_at_the_models_own_labels_is_p_times_one_minus_p(skewed):
    many = TextSet([row(f"r{i}", 0, 0) for i in range(200)], pad_id=0)
    fisher = prepared(skewed, many, fisher_examples=200).fisher["table"]
    assert fisher[0, 0].item() == pytest.approx(0.16, abs=0.07)  # 4 standard errors
    # None of the 200 rows has the label 1; the empirical Fisher sees (1 − p)² of the label 0 alone.
    assert prepared(skewed, many, labels="data").fisher["table"][0, 0].item() == pytest.approx(0.04, rel=1e-4)


def test_a_run_that_is_resumed_finds_the_same_fisher(skewed, memory):
    torch.manual_seed(1)
    first = prepared(skewed, memory).fisher["table"]
    assert torch.equal(first, prepared(skewed, memory).fisher["table"])


def test_the_fisher_of_images_is_that_of_the_images_as_they_are():
    model = tiny()
    augmented = prepared(model, some(6, augment=Augmentation()), labels="data").fisher
    plain = prepared(model, some(6), labels="data").fisher
    assert all(torch.equal(augmented[name], values) for name, values in plain.items())


def test_the_springs_gradient_is_that_of_the_penalty(skewed, memory):
    method = prepared(skewed, memory, strength=7.0, labels="data")
    start = skewed.table.detach().clone()
    with torch.no_grad():
        skewed.table.add_(torch.tensor([[0.3, -0.1], [0.2, 0.4]]))
    batch = memory.batch(memory.ids)
    penalty = 7.0 / 2 * (method.fisher["table"] * (skewed.table - start).square()).sum()
    whole = torch.autograd.grad(method.loss(skewed, {"learn": batch}, PHASE)["learn"].total + penalty, skewed.table)[0]
    method.loss(skewed, {"learn": batch}, PHASE)["learn"].total.backward()
    method.transform(skewed, PHASE)
    assert torch.allclose(skewed.table.grad, whole, atol=1e-6)
    logged = method.diagnostics(1e-3)
    assert logged == pytest.approx({"penalty": penalty.item(), "stiffness": 1e-3 * 7.0 * 0.8 / 3}, rel=1e-5)


def test_a_weight_the_loss_does_not_touch_is_pulled_too(skewed, memory):
    method = prepared(skewed, memory, strength=3.0, labels="data")
    with torch.no_grad():
        skewed.table.add_(1.0)
    method.transform(skewed, PHASE)
    assert torch.allclose(skewed.table.grad, 3.0 * method.fisher["table"], atol=1e-6)


def test_the_memory_is_not_rehearsed(skewed, memory):
    assert prepared(skewed, memory).phases(0, 1) == (PHASE,)


def test_without_a_memory_nothing_pulls(skewed, memory):
    method = EWC(EWCConfig())
    method.prepare(skewed, {"learn": memory})
    with torch.no_grad():
        skewed.table.add_(1.0)
    method.transform(skewed, PHASE)
    assert skewed.table.grad is None
    assert method.diagnostics(1e-3) == {"penalty": 0.0, "stiffness": 0.0}


def test_unknown_labels_are_refused():
    with pytest.raises(PlanError, match="ewc.labels = 'true'"):
        methods.configure("ewc", {"labels": "true"})
