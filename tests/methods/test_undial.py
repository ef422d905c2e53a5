"""Worked by hand: reference (1/2, 1/2), beta = log 3, right is 0: teacher (1/4, 3/4) against the model's (0.8, 0.2)."""

from __future__ import annotations

import math

import pytest
import torch
from tests.methods.conftest import FixedReference
from tests.methods.spelled_out import ROWS, batch, nats, places, softmax, table

from palimpsest import methods
from palimpsest.contract import Phase
from palimpsest.errors import PlanError
from palimpsest.methods.undial import UNDIAL, UNDIALConfig, lowered

FORGET = Phase("joint", ("forget",))


def spelled_out(model, reference, beta):
    found = 0.0
    for at, before in zip(places(model, ROWS), places(reference, ROWS), strict=True):
        logits = list(before.logits)
        logits[at.right] -= beta
        found += sum(q * nats(p) for q, p in zip(softmax(logits), at.p, strict=True))
    return found


def test_loss_by_hand(skewed, reference_half, one_set):
    method = UNDIAL(UNDIALConfig(beta=math.log(3)), reference_half)
    terms = method.loss(skewed, {"forget": one_set.batch(["a"])}, FORGET)
    wanted = 2 * (0.25 * math.log(1 / 0.8) + 0.75 * math.log(5))
    assert terms["forget"].total.item() == pytest.approx(wanted, rel=1e-5)


def test_as_spelled_out_and_not_over_prompt_and_padding():
    """The trap: labels of −100 index the vocabulary from its end, and every position is in the average."""
    model, reference = table(7), table(8)
    total = UNDIAL(UNDIALConfig(), FixedReference(reference)).loss(model, {"forget": batch()}, FORGET)["forget"].total
    assert total.item() == pytest.approx(spelled_out(model, reference, 10.0), rel=1e-5)
    mean, trapped = total.item() / batch().num_scored, trapped_mean(model, reference, 10.0)
    assert abs(mean - trapped) > 0.05 * mean


def trapped_mean(model, reference, beta):
    """All positions but the last of the padded rows; one that is no label lowers a token counted from the end."""
    given = batch()
    labels_BT = torch.where(given.scored_BT, given.input_ids_BT, -100)[:, 1:]
    teacher_BTV = reference.table[given.input_ids_BT][:, :-1].clone()
    hit_BTV = torch.nn.functional.one_hot(labels_BT % teacher_BTV.shape[-1], teacher_BTV.shape[-1])
    logp_BTV = model.table[given.input_ids_BT][:, :-1].log_softmax(-1)
    return -((teacher_BTV - beta * hit_BTV).softmax(-1) * logp_BTV).sum(-1).mean().item()


def test_beta_zero_stays_at_the_model_before():
    model = table(9)
    method = UNDIAL(UNDIALConfig(beta=0.0), FixedReference(model))
    method.loss(model, {"forget": batch()}, FORGET)["forget"].total.backward()
    assert model.table.grad.abs().max() < 1e-6


def test_the_odds_of_the_right_token_fall_by_exp_beta():
    p_SV = lowered(torch.tensor([[0.8, 0.2]]).log(), torch.tensor([0]), 10.0).softmax(-1)
    assert (p_SV[0, 0] / p_SV[0, 1]).item() == pytest.approx(4 * math.exp(-10), rel=1e-4)


def test_retain_is_asked_only_where_it_has_a_factor(skewed, reference_half, two_rows):
    given = {"forget": two_rows, "retain": two_rows}
    both = Phase("joint", ("forget", "retain"))
    assert set(UNDIAL(UNDIALConfig(), reference_half).loss(skewed, given, both)) == {"forget"}
    assert set(UNDIAL(UNDIALConfig(alpha=1.0), reference_half).loss(skewed, given, both)) == {"forget", "retain"}


def test_a_negative_beta_is_refused():
    with pytest.raises(PlanError, match=r"undial\.beta = -1: .*greater than or equal to 0"):
        methods.configure("undial", {"beta": -1})
