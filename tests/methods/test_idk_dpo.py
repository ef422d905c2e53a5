"""Worked by hand, beta = 1, reference uniform over two tokens: a refusal token of p 0.2, a forget row 0, 0 of p 0.8.

Δ(refusal) = log(0.2/0.5), Δ(x) = 2 log(0.8/0.5); −2 log σ(d) = 2 log(1 + (0.8/0.5)² / (0.2/0.5)) = 2 log 7.4.
"""

from __future__ import annotations

import math

import pytest
import torch
from tests.methods.conftest import sequence

from palimpsest import methods
from palimpsest.contract import Phase
from palimpsest.data.encode.batch import collate
from palimpsest.errors import PlanError
from palimpsest.methods.idk_dpo import IDKDPO, IDKDPOConfig
from palimpsest.methods.npo import npo_loss
from palimpsest.models.preference import preference_loss

PAIR = Phase("joint", ("forget", "refusal"))


def test_loss_by_hand(skewed, reference_half):
    given = {"forget": collate([sequence("a", 0, 0, 0)], 0), "refusal": collate([sequence("r", 0, 1)], 0)}
    terms = IDKDPO(IDKDPOConfig(beta=1.0), reference_half).loss(skewed, given, PAIR)
    assert terms["preference"].total.item() == pytest.approx(2 * math.log(7.4), rel=1e-5)
    assert (terms["preference"].of, terms["preference"].per) == ("forget", "example")


def test_at_the_reference_a_pair_costs_log_two(half, reference_half):
    given = {"forget": collate([sequence("a", 0, 0, 0)], 0), "refusal": collate([sequence("r", 0, 1)], 0)}
    terms = IDKDPO(IDKDPOConfig(beta=0.1), reference_half).loss(half, given, PAIR)
    assert terms["preference"].total.item() == pytest.approx(20 * math.log(2), rel=1e-6)


def test_a_refusal_that_stands_still_leaves_npo():
    lose_B = torch.tensor([0.3, -2.0])
    found = preference_loss(torch.zeros(2), lose_B, beta=0.7)
    assert found.item() == pytest.approx(npo_loss(lose_B, torch.zeros(2), beta=0.7).item(), rel=1e-6)


def test_beta_zero_is_refused():
    with pytest.raises(PlanError, match=r"idk_dpo\.beta = 0: .*greater than 0"):
        methods.configure("idk_dpo", {"beta": 0})
