"""Functions of logits a few rows at a time: the same bits as at once, forward and backward, and less kept."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from palimpsest.data.encode import lean_logits as rows
from palimpsest.data.encode.batch import Predictions
from palimpsest.models.divergence import kl_divergence, soft_cross_entropy

POSITIONS, VOCABULARY = 23, 11


def log_likelihood(logits_SV, target_S):
    return Predictions(logits_SV, target_S, torch.zeros_like(target_S), 1).logp_S


def plain_log_likelihood(logits_SV, target_S):
    return -F.cross_entropy(logits_SV.float(), target_S, reduction="none")


def plain_kl(logits_SV, reference_SV):
    logs = (F.log_softmax(t.float(), dim=-1) for t in (logits_SV, reference_SV))
    return F.kl_div(*logs, reduction="none", log_target=True).sum(dim=-1)


def plain_soft_cross_entropy(logits_SV, reference_SV):
    return -(F.softmax(reference_SV.float(), dim=-1) * F.log_softmax(logits_SV.float(), dim=-1)).sum(dim=-1)


@pytest.fixture
def few_at_once(monkeypatch):
    """Three rows at a time, the last part shorter."""
    monkeypatch.setattr(rows, "NUMBERS_AT_ONCE", 3 * VOCABULARY + 1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("ours", "plain", "classes"),
    [
        (log_likelihood, plain_log_likelihood, True),
        (lambda logits, reference: kl_divergence(reference, logits), plain_kl, False),
        (lambda logits, reference: soft_cross_entropy(reference, logits), plain_soft_cross_entropy, False),
    ],
    ids=["likelihood", "kl", "cross-entropy"],
)
def test_values_and_gradients_have_the_bits_of_the_plain_formula(few_at_once, ours, plain, classes, dtype):
    generator = torch.Generator().manual_seed(0)
    logits_SV = (3 * torch.randn(POSITIONS, VOCABULARY, generator=generator)).to(dtype).requires_grad_()
    other = torch.randint(0, VOCABULARY, (POSITIONS,), generator=generator)
    if not classes:
        other = torch.randn(POSITIONS, VOCABULARY, generator=generator).to(dtype)
    weight_S = torch.randn(POSITIONS, generator=generator)
    found = []
    for function in (ours, plain):
        value_S = function(logits_SV, other)
        found.append((value_S, torch.autograd.grad(value_S @ weight_S, logits_SV)[0]))
    assert "ByRows" in type(ours(logits_SV, other).grad_fn).__name__
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])


def test_nothing_but_the_logits_is_kept(few_at_once):
    logits_SV = torch.randn(POSITIONS, VOCABULARY, requires_grad=True)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        log_likelihood(logits_SV, torch.zeros(POSITIONS, dtype=torch.long))
    assert sum(tensor.numel() for tensor in kept if tensor.data_ptr() != logits_SV.data_ptr()) == POSITIONS


def test_small_logits_take_the_plain_path():
    logits_SV = torch.randn(POSITIONS, VOCABULARY, requires_grad=True)
    assert "ByRows" not in type(log_likelihood(logits_SV, torch.zeros(POSITIONS, dtype=torch.long)).grad_fn).__name__


def test_a_gradient_of_the_gradient_is_refused_not_wrong(few_at_once):
    logits_SV = torch.randn(POSITIONS, VOCABULARY, requires_grad=True)
    value = log_likelihood(logits_SV, torch.zeros(POSITIONS, dtype=torch.long)).square().sum()
    (gradient_SV,) = torch.autograd.grad(value, logits_SV, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient_SV.sum().backward()
