"""Worked by hand: a refusal token of p 1/2 is at log 2 + ½ [½ log ½ − 1½ log 1½] = ¾ log(4/3) = 0.2157616."""

from __future__ import annotations

import math

import pytest
import torch
from tests.methods.conftest import FixedReference
from tests.methods.spelled_out import OTHER, ROWS, WORDS, batch, places, table

from palimpsest import methods
from palimpsest.contract import Phase
from palimpsest.errors import PlanError
from palimpsest.methods.jens_un import JensUn, JensUnConfig, distance_to_one
from palimpsest.models.divergence import js_divergence

JOINT = Phase("joint", ("forget", "refusal", "retain"))


def jsd(p, q):
    middle = [(a + b) / 2 for a, b in zip(p, q, strict=True)]
    return sum(0.5 * a * math.log(a / m) for one in (p, q) for a, m in zip(one, middle, strict=True) if a > 0)


def test_loss_by_hand(half, reference_half, two_rows):
    terms = JensUn(JensUnConfig(), reference_half).loss(half, {"refusal": two_rows, "retain": two_rows}, JOINT)
    assert terms["refusal"].total.item() == pytest.approx(3 * 0.2157616, rel=1e-5)
    assert terms["retain"].total.item() == pytest.approx(0.0, abs=1e-6)


def test_as_spelled_out_and_not_over_all_positions():
    """The trap: a sum over every position, prompt and padding with it, against a uniform target."""
    model, reference = table(11), table(12)
    given = {"refusal": batch(), "retain": batch(OTHER)}
    terms = JensUn(JensUnConfig(), FixedReference(reference)).loss(model, given, JOINT)
    refused = sum(jsd(at.p, [float(v == at.right) for v in range(WORDS)]) for at in places(model, ROWS))
    pairs = zip(places(model, OTHER), places(reference, OTHER), strict=True)
    assert terms["refusal"].total.item() == pytest.approx(refused, rel=1e-4)
    assert terms["retain"].total.item() == pytest.approx(sum(jsd(a.p, b.p) for a, b in pairs), rel=1e-4)
    everywhere = [p for row in batch().input_ids_BT for p in model.table[row].softmax(-1).tolist()]
    trapped = sum(jsd(p, [1 / WORDS] * WORDS) for p in everywhere)
    assert abs(terms["refusal"].total.item() - trapped) > 0.1


def test_both_are_bounded_by_log_two():
    far, near = torch.tensor([[0.0, -80.0]]), torch.tensor([[-80.0, 0.0]])
    assert js_divergence(far, near).item() == pytest.approx(math.log(2), rel=1e-6)
    assert js_divergence(far, far).item() == pytest.approx(0.0, abs=1e-7)
    ends_S = distance_to_one(torch.tensor([-80.0, 0.0]))
    assert ends_S.tolist() == pytest.approx([math.log(2), 0.0], abs=1e-7)


def test_the_gradient_vanishes_when_done():
    for p in (0.5, 1 - 1e-4):
        logits_SV = torch.tensor([[p, 1 - p]]).log().requires_grad_()
        distance_to_one(logits_SV.log_softmax(-1)[:, 0]).sum().backward()
        wanted = 0.5 * p * (1 - p) * math.log(p / (1 + p))
        assert logits_SV.grad[0, 0].item() == pytest.approx(wanted, rel=2e-2)
    assert abs(wanted) < 1e-4


def test_the_rows_to_forget_say_only_whose_turn_it_is(half, two_rows):
    assert set(JensUn(JensUnConfig()).loss(half, {"forget": two_rows, "refusal": two_rows}, JOINT)) == {"refusal"}


def test_a_negative_factor_is_refused():
    with pytest.raises(PlanError, match=r"jens_un\.forget_weight = -1: .*greater than or equal to 0"):
        methods.configure("jens_un", {"forget_weight": -1})
