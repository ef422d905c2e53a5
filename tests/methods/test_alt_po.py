"""Worked by hand as ``idk_dpo``: an alternative token of p 0.2, a forget row 0, 0 of p 0.8, beta 1: 2 log 7.4."""

from __future__ import annotations

import math

import pytest
import torch
from tests.methods.conftest import FixedReference, sequence
from tests.methods.spelled_out import OTHER, ROWS, batch, places, table

from palimpsest import methods
from palimpsest.contract import Phase
from palimpsest.data.encode.batch import collate
from palimpsest.errors import PlanError
from palimpsest.methods.alt_po import AltPO, AltPOConfig
from palimpsest.methods.idk_dpo import IDKDPO, IDKDPOConfig
from palimpsest.models.preference import preference_loss

PAIR = Phase("joint", ("forget", "alternative"))


def test_loss_by_hand(skewed, reference_half):
    given = {"forget": collate([sequence("a", 0, 0, 0)], 0), "alternative": collate([sequence("r", 0, 1)], 0)}
    terms = AltPO(AltPOConfig(beta=1.0), reference_half).loss(skewed, given, PAIR)
    assert terms["preference"].total.item() == pytest.approx(2 * math.log(7.4), rel=1e-5)
    assert (terms["preference"].of, terms["preference"].per) == ("forget", "example")


def test_as_spelled_out_and_as_with_refusals():
    model, reference = table(20), table(21)
    others = tuple(OTHER) + ROWS[:1]
    given = {"forget": batch(), "alternative": batch(others)}
    ratio = [[0.0] * 3, [0.0] * 3]
    for rows, found in ((others, ratio[0]), (ROWS, ratio[1])):
        for at, before in zip(places(model, rows), places(reference, rows), strict=True):
            found[at.row] += math.log(at.p[at.right] / before.p[at.right])
    wanted = sum(20 * math.log(1 + math.exp(-0.1 * (w - x))) for w, x in zip(*ratio, strict=True))
    ours = AltPO(AltPOConfig(), FixedReference(reference)).loss(model, given, PAIR)["preference"].total.item()
    refused = {"forget": given["forget"], "refusal": given["alternative"]}
    theirs = IDKDPO(IDKDPOConfig(), FixedReference(reference)).loss(model, refused, PAIR)["preference"].total.item()
    assert ours == pytest.approx(wanted, rel=1e-5)
    assert ours == theirs


def test_small_beta_raises_one_and_lowers_the_other_alike():
    win_B, lose_B = (torch.tensor([v], requires_grad=True) for v in (3.0, -2.0))
    preference_loss(win_B, lose_B, beta=1e-5).backward()
    assert (win_B.grad.item(), lose_B.grad.item()) == (pytest.approx(-1.0, abs=1e-4), pytest.approx(1.0, abs=1e-4))


def test_beta_zero_is_refused():
    with pytest.raises(PlanError, match=r"alt_po\.beta = 0: .*greater than 0"):
        methods.configure("alt_po", {"beta": 0})
