"""Worked by hand: p = (0.8, 0.2), right is 0: q = (0, 1), a token costs log 5."""

from __future__ import annotations

import math

import pytest
import torch
from tests.methods.spelled_out import ROWS, batch, nats, places, table

from palimpsest import methods
from palimpsest.contract import Phase
from palimpsest.data.encode.batch import TokenSequence, collate
from palimpsest.errors import PlanError
from palimpsest.methods.ce_u import CEU, CEUConfig, behind_the_first, without_right
from palimpsest.models.divergence import soft_cross_entropy

FORGET = Phase("joint", ("forget",))


def test_loss_by_hand(skewed, one_set):
    """The first of two label tokens is left alone, and is not in the mean."""
    term = CEU(CEUConfig()).loss(skewed, {"forget": one_set.batch(["a"])}, FORGET)["forget"]
    assert term.total.item() == pytest.approx(math.log(5), rel=1e-5)
    assert term.count.item() == 1


def test_as_spelled_out_at_label_tokens_alone():
    model, counted = table(10), []
    for number, row in enumerate(ROWS):
        own = [at for at in places(model, ROWS) if at.row == number]
        for at in own[min(1, len(own) - 1) :]:
            others = 1 - at.p[at.right]
            counted.append(sum(p / others * nats(p) for v, p in enumerate(at.p) if v != at.right))
        assert len(row.tokens) > 1
    term = CEU(CEUConfig()).loss(model, {"forget": batch()}, FORGET)["forget"]
    assert term.total.item() == pytest.approx(sum(counted), rel=1e-4)
    assert term.count.item() == len(counted)


def test_where_all_tokens_are_alike_it_is_log_v():
    """q uniform over the V − 1 others; gradient p − q: 1/V at the right one, 1/V − 1/(V − 1) at each other."""
    logits_SV = torch.zeros(1, 4, requires_grad=True)
    loss_S = soft_cross_entropy(without_right(logits_SV, torch.tensor([2])), logits_SV)
    loss_S.sum().backward()
    assert loss_S.item() == pytest.approx(math.log(4))
    assert logits_SV.grad[0].tolist() == pytest.approx([-1 / 12, -1 / 12, 1 / 4, -1 / 12], abs=1e-6)


def test_the_gradient_fades_with_the_token():
    for p in (0.9, 1e-4):
        logits_SV = torch.tensor([[p, 1 - p]]).log().requires_grad_()
        soft_cross_entropy(without_right(logits_SV, torch.tensor([0])), logits_SV).sum().backward()
        assert logits_SV.grad[0].tolist() == pytest.approx([p, -p], rel=1e-3)


def test_a_short_answer_keeps_its_last_token(skewed):
    single = collate([TokenSequence("a", (1, 0), (False, True))], pad_id=0)
    term = CEU(CEUConfig(skipped=3)).loss(skewed, {"forget": single}, FORGET)["forget"]
    assert (term.total.item(), term.count.item()) == (pytest.approx(math.log(5), rel=1e-5), 1)
    assert behind_the_first(torch.tensor([0, 0, 1, 2, 2, 2]), 2).tolist() == [False, True, True, False, False, True]


def test_a_negative_number_of_tokens_is_refused():
    with pytest.raises(PlanError, match=r"ce_u\.skipped = -1: .*greater than or equal to 0"):
        methods.configure("ce_u", {"skipped": -1})
