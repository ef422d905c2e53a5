"""Worked by hand: p = (0.8, 0.2), right is 0: q = (1/2, 1/2), KL(p ‖ q) = 0.8 log 1.6 + 0.2 log 0.4 = 0.1927448."""

from __future__ import annotations

import math

import pytest
import torch
from tests.methods.spelled_out import ROWS, WORDS, batch, nats, places, table

from palimpsest import methods
from palimpsest.contract import Phase
from palimpsest.errors import PlanError
from palimpsest.methods.unilogit import Unilogit, UnilogitConfig, reverse_divergence, uniform_target

FORGET = Phase("joint", ("forget",))


def test_loss_by_hand(skewed, one_set):
    terms = Unilogit(UnilogitConfig()).loss(skewed, {"forget": one_set.batch(["a"])}, FORGET)
    assert terms["forget"].total.item() == pytest.approx(2 * 0.1927448, rel=1e-5)


def test_as_spelled_out_at_label_tokens_alone():
    model, wanted = table(6), 0.0
    for at in places(model, ROWS):
        others = 1 - at.p[at.right]
        q = [(1 - 1 / WORDS) * p / others for p in at.p]
        q[at.right] = 1 / WORDS
        wanted += sum(p * (nats(b) - nats(p)) for p, b in zip(at.p, q, strict=True))
    terms = Unilogit(UnilogitConfig()).loss(model, {"forget": batch()}, FORGET)
    assert terms["forget"].total.item() == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize("size", [1.0, 30.0])
def test_the_teacher_gives_the_right_token_exactly_one_of_v(size):
    logits_SV = torch.randn(6, 7, generator=torch.Generator().manual_seed(0)) * size
    target_S = torch.arange(6)
    q_SV = uniform_target(logits_SV, target_S).softmax(-1)
    assert q_SV[range(6), target_S].tolist() == pytest.approx([1 / 7] * 6, rel=1e-5)
    kept_SV = logits_SV.softmax(-1).scatter(1, target_S[:, None], 0)
    others_SV = q_SV.scatter(1, target_S[:, None], 0)
    assert torch.allclose(others_SV, kept_SV / kept_SV.sum(-1, keepdim=True) * 6 / 7, atol=1e-6)


def test_the_gradient_is_that_of_the_right_token_and_ends_at_chance():
    """p (1 − p) log[p (V − 1)/(1 − p)] by the right token's logit; none through the teacher."""
    for p in (0.9, 0.3, 1 / 3):
        logits_SV = torch.tensor([[p, 0.4 * (1 - p), 0.6 * (1 - p)]]).log().requires_grad_()
        reverse_divergence(logits_SV, uniform_target(logits_SV, torch.tensor([0]))).sum().backward()
        wanted = p * (1 - p) * math.log(p * 2 / (1 - p))
        assert logits_SV.grad[0, 0].item() == pytest.approx(wanted, abs=1e-6)


def test_a_negative_factor_is_refused():
    with pytest.raises(PlanError, match=r"unilogit\.gamma = -1: .*greater than or equal to 0"):
        methods.configure("unilogit", {"gamma": -1})
