"""Worked by hand on the skewed table: ∂ log p(y) / ∂ logits = onehot(y) − (0.8, 0.2), all labels follow token 0.

Row a, labels 0, 0: 2·(0.2, −0.2), squares 0.16. Row b, label 1: (−0.8, 0.8), squares 0.64. Over 3 positions: 0.8 / 3.
The Fisher as defined, over all labels, is 0.8 · 0.2² + 0.2 · 0.8² = p (1 − p) = 0.16 a position.
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
from palimpsest.rules import fisher as fisher_file
from palimpsest.rules.rule_stack import RuleStack
from palimpsest.rules.spring import Spring

PHASE = Phase("learn", ("learn",))


def row(name, *tokens):
    return TokenSequence(name, tokens, (False,) + (True,) * (len(tokens) - 1))


@pytest.fixture
def memory():
    return TextSet([row("a", 0, 0, 0), row("b", 0, 1)], pad_id=0)


def prepared(model, memory, **options) -> Spring:
    """The spring of the method, at the weights at hand."""
    (held,) = EWC(EWCConfig(**options)).rules()
    held.prepare(model, {"learn": memory, "retain": memory})
    return held


def test_empirical_fisher_by_hand(skewed, memory):
    held = prepared(skewed, memory, labels="data")
    by_hand = torch.tensor([[0.8 / 3, 0.8 / 3], [0.0, 0.0]])
    assert torch.allclose(held.fisher["table"], by_hand, atol=1e-6)
    assert skewed.table.grad is None


def test_the_fisher_is_p_times_one_minus_p(skewed, memory):
    """Summed over both labels at each of the three positions; the memory's own labels do not enter."""
    by_hand = torch.tensor([[0.16, 0.16], [0.0, 0.0]])
    assert torch.allclose(prepared(skewed, memory).fisher["table"], by_hand, atol=1e-6)
    known = TextSet([row(f"r{i}", 0, 0) for i in range(3)], pad_id=0)
    assert torch.allclose(prepared(skewed, known).fisher["table"], by_hand, atol=1e-6)
    # None of its rows has the label 1; the empirical Fisher sees (1 − p)² of the label 0 alone.
    assert prepared(skewed, known, labels="data").fisher["table"][0, 0].item() == pytest.approx(0.04, rel=1e-4)


@pytest.fixture
def drawn(monkeypatch):
    """Too many outputs to sum over."""
    monkeypatch.setattr(fisher_file, "MOST_SUMMED", 1)


@pytest.mark.parametrize(("rows", "draws"), [(400, 1), (4, 100)])
def test_drawn_labels_estimate_it_without_bias(skewed, drawn, rows, draws):
    """Of one draw the square is 0.04 or 0.64: standard deviation 0.24, so 0.012 over 400."""
    many = TextSet([row(f"r{i}", 0, 0) for i in range(rows)], pad_id=0)
    fisher = prepared(skewed, many, fisher_examples=rows, draws=draws).fisher["table"]
    assert fisher[0, 0].item() == pytest.approx(0.16, abs=4 * 0.012)
    assert fisher[0, 0].item() != pytest.approx(0.16, abs=1e-6)


def test_positions_of_one_example_add_up(skewed, drawn):
    """Five positions of one row: the square of their sum has the mean 5 · 0.16 and about the variance 2 · 0.8²."""
    one = TextSet([row("r", 0, 0, 0, 0, 0, 0)], pad_id=0)
    fisher = prepared(skewed, one, draws=900).fisher["table"]
    assert fisher[0, 0].item() == pytest.approx(0.16, abs=4 * 2**0.5 * 0.16 / 30)


def test_the_fisher_of_a_classifier_is_the_sum_over_its_classes():
    """By brute force: one backward pass for each image and class."""
    model, memory = tiny(), some(3)
    fisher = prepared(model, memory).fisher
    model.eval()
    expected = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    for image in memory.ids:
        logp_V = model(**memory.batch([image]).inputs()).logits[0].log_softmax(-1)
        assert len(logp_V) <= fisher_file.MOST_SUMMED
        for logp in logp_V:
            model.zero_grad()
            logp.backward(retain_graph=True)
            for name, parameter in model.named_parameters():
                expected[name] += logp.detach().exp() * parameter.grad.square() / 3
    assert all(torch.allclose(fisher[name], expected[name], rtol=1e-4, atol=1e-9) for name in fisher)


def test_a_run_that_is_resumed_finds_the_same_fisher(skewed, memory, drawn):
    torch.manual_seed(1)
    first = prepared(skewed, memory).fisher["table"]
    assert torch.equal(first, prepared(skewed, memory).fisher["table"])


def test_the_fisher_of_images_is_that_of_the_images_as_they_are():
    model = tiny()
    augmented = prepared(model, some(6, augment=Augmentation()), labels="data").fisher
    plain = prepared(model, some(6), labels="data").fisher
    assert all(torch.equal(augmented[name], values) for name, values in plain.items())


def test_the_springs_gradient_is_that_of_the_penalty(skewed, memory):
    method, held = EWC(EWCConfig()), prepared(skewed, memory, strength=7.0, labels="data")
    start = skewed.table.detach().clone()
    with torch.no_grad():
        skewed.table.add_(torch.tensor([[0.3, -0.1], [0.2, 0.4]]))
    batch = memory.batch(memory.ids)
    penalty = 7.0 / 2 * (held.fisher["table"] * (skewed.table - start).square()).sum()
    whole = torch.autograd.grad(method.loss(skewed, {"learn": batch}, PHASE)["learn"].total + penalty, skewed.table)[0]
    method.loss(skewed, {"learn": batch}, PHASE)["learn"].total.backward()
    held.transform(skewed, PHASE)
    assert torch.allclose(skewed.table.grad, whole, atol=1e-6)
    logged = held.diagnostics(1e-3)
    assert logged == pytest.approx({"penalty": penalty.item(), "stiffness": 1e-3 * 7.0 * 0.8 / 3}, rel=1e-5)


def test_a_weight_the_loss_does_not_touch_is_pulled_too(skewed, memory):
    held = prepared(skewed, memory, strength=3.0, labels="data")
    with torch.no_grad():
        skewed.table.add_(1.0)
    held.transform(skewed, PHASE)
    assert torch.allclose(skewed.table.grad, 3.0 * held.fisher["table"], atol=1e-6)


def test_the_memory_is_not_rehearsed():
    assert EWC(EWCConfig()).phases(0, 1) == (PHASE,)


def test_without_a_memory_nothing_pulls(skewed, memory):
    rules = RuleStack(EWC(EWCConfig()).rules())
    rules.prepare(skewed, {"learn": memory}, {"learn": memory})
    with torch.no_grad():
        skewed.table.add_(1.0)
    rules.transform(skewed, PHASE)
    assert skewed.table.grad is None
    assert rules.diagnostics(1e-3) == {"penalty": 0.0, "stiffness": 0.0}


def test_unknown_labels_are_refused():
    with pytest.raises(PlanError, match="ewc.labels = 'true'"):
        methods.configure("ewc", {"labels": "true"})
