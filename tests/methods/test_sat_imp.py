"""Worked by hand, both powers 1: tokens of p 0.8, 0.8 and 0.2 have the same weight 0.16."""

from __future__ import annotations

import math

import pytest
import torch
from tests.methods.spelled_out import OTHER, ROWS, batch, places, table

from palimpsest import methods
from palimpsest.contract import Phase
from palimpsest.errors import PlanError
from palimpsest.methods.grad_diff import GradDiff, GradDiffConfig
from palimpsest.methods.sat_imp import SatImp, SatImpConfig, token_weights
from palimpsest.methods.wga import WGA, WGAConfig

BOTH = Phase("joint", ("forget", "retain"))


def totals(method, model):
    terms = method.loss(model, {"forget": batch(), "retain": batch(OTHER)}, BOTH)
    return {name: term.total.item() for name, term in terms.items()}


def test_loss_by_hand(skewed, two_rows):
    config = SatImpConfig(beta1=1.0, beta2=1.0)
    terms = SatImp(config).loss(skewed, {"forget": two_rows}, Phase("joint", ("forget",)))
    assert terms["forget"].total.item() == pytest.approx(0.16 * math.log(0.8**2 * 0.2), rel=1e-5)
    assert terms["forget"].weight == 1.0


def test_as_spelled_out():
    model, wanted = table(4), 0.0
    for at in places(model, ROWS):
        p = at.p[at.right]
        wanted += p**5 * (1 - p) * math.log(p)
    assert totals(SatImp(SatImpConfig()), model)["forget"] == pytest.approx(wanted, rel=1e-5)


def test_its_limits_are_gradient_difference_and_weighted_ascent():
    model = table(5)
    assert totals(SatImp(SatImpConfig(beta1=0, beta2=0)), model) == totals(GradDiff(GradDiffConfig()), model)
    weighted = totals(SatImp(SatImpConfig(beta1=2, beta2=0)), model)
    assert weighted == totals(WGA(WGAConfig(beta=2)), model)


def test_what_is_certain_and_what_is_lost_have_no_weight():
    assert token_weights(torch.tensor([0.0, -90.0]), 5.0, 1.0).tolist() == [0.0, 0.0]
    assert token_weights(torch.tensor([0.0]), 5.0, 0.0).tolist() == [1.0]


def test_near_certainty_the_weight_is_what_is_left():
    """1 − exp(log p) would be 0 in fp32."""
    assert token_weights(torch.tensor([-1e-9]), 5.0, 1.0).item() == pytest.approx(1e-9, rel=1e-6)


def test_the_weight_has_no_gradient():
    assert not token_weights(torch.tensor([-1.0], requires_grad=True), 5.0, 1.0).requires_grad


def test_no_reference_is_built_that_nothing_asks():
    assert not SatImp.asks_reference_on(SatImpConfig())


def test_a_negative_power_is_refused():
    with pytest.raises(PlanError, match=r"sat_imp\.beta2 = -1: .*greater than or equal to 0"):
        methods.configure("sat_imp", {"beta2": -1})
