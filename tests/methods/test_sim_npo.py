"""Worked by hand, beta = 2, delta = 0.5: row a is 0, 0 of p 0.8, row b is 1 of p 0.2.

Mean tokens n cost log 1.25 and log 5, e^−2n is 0.64 and 0.04; −(2/2) log σ(2 (n − 0.5)) = log(1 + e · e^−2n).
"""

from __future__ import annotations

import math

import pytest
import torch
from tests.methods.spelled_out import ROWS, batch, nats, places, table

from palimpsest import methods
from palimpsest.contract import Phase
from palimpsest.errors import PlanError
from palimpsest.methods.sim_npo import SimNPO, SimNPOConfig, simple_preference_loss

FORGET = Phase("joint", ("forget",))


def test_loss_by_hand(skewed, two_rows):
    terms = SimNPO(SimNPOConfig(beta=2.0, delta=0.5)).loss(skewed, {"forget": two_rows}, FORGET)
    wanted = math.log(1 + 0.64 * math.e) + math.log(1 + 0.04 * math.e)
    assert terms["forget"].total.item() == pytest.approx(wanted, rel=1e-5)
    assert (terms["forget"].per, terms["forget"].weight) == ("example", 0.125)


def test_as_spelled_out_over_label_tokens_alone():
    """A mean over the padded length, or over the prompt too, would be another one."""
    model, rows = table(1), {}
    for place in places(model, ROWS):
        rows.setdefault(place.row, []).append(nats(place.p[place.right]))
    means = [sum(row) / len(row) for row in rows.values()]
    wanted = sum(-(2 / 4.5) * math.log(1 / (1 + math.exp(-4.5 * n))) for n in means)
    terms = SimNPO(SimNPOConfig()).loss(model, {"forget": batch()}, FORGET)
    assert terms["forget"].total.item() == pytest.approx(wanted, rel=1e-5)


def test_small_beta_is_ascent_on_the_mean_token():
    nll_B = torch.tensor([0.1, 5.0], requires_grad=True)
    simple_preference_loss(nll_B, beta=1e-5, delta=0.0).backward()
    assert torch.allclose(nll_B.grad, -torch.ones(2), atol=1e-4)


def test_large_beta_moves_only_what_costs_less_than_delta():
    nll_B = torch.tensor([0.25, 0.75], requires_grad=True)
    loss = simple_preference_loss(nll_B, beta=1e4, delta=0.5)
    loss.backward()
    assert loss.item() == pytest.approx(2 * 0.25, rel=1e-4)
    assert nll_B.grad.tolist() == pytest.approx([-2.0, 0.0], abs=1e-6)


def test_beta_zero_is_refused():
    with pytest.raises(PlanError, match=r"sim_npo\.beta = 0: .*greater than 0"):
        methods.configure("sim_npo", {"beta": 0})
