"""Worked by hand, beta = 1: tokens of p 0.8, 0.8 and 0.2 give 2 · 0.8 log 0.8 + 0.2 log 0.2."""

from __future__ import annotations

import math

import pytest
import torch
from tests.methods.spelled_out import OTHER, ROWS, batch, places, table

from palimpsest import methods
from palimpsest.contract import Phase
from palimpsest.errors import PlanError
from palimpsest.methods.grad_diff import GradDiff, GradDiffConfig
from palimpsest.methods.wga import WGA, WGAConfig, weighted_ascent_loss

BOTH = Phase("joint", ("forget", "retain"))


def test_loss_by_hand(skewed, two_rows):
    terms = WGA(WGAConfig()).loss(skewed, {"forget": two_rows}, Phase("joint", ("forget",)))
    wanted = 2 * 0.8 * math.log(0.8) + 0.2 * math.log(0.2)
    assert terms["forget"].total.item() == pytest.approx(wanted, rel=1e-5)
    assert set(terms) == {"forget"}


def test_as_spelled_out():
    model = table(2)
    terms = WGA(WGAConfig(beta=0.7)).loss(model, {"forget": batch(), "retain": batch(OTHER)}, BOTH)
    ascent = sum(at.p[at.right] ** 0.7 * math.log(at.p[at.right]) for at in places(model, ROWS))
    descent = -sum(math.log(at.p[at.right]) for at in places(model, OTHER))
    assert terms["forget"].total.item() == pytest.approx(ascent, rel=1e-5)
    assert terms["retain"].total.item() == pytest.approx(descent, rel=1e-5)


def test_the_weight_has_no_gradient():
    """Through the weight it would be p (1 + log p) and turn round at p = 1/e."""
    logp_S = torch.tensor([0.8, 0.1]).log().requires_grad_()
    weighted_ascent_loss(logp_S, beta=1.0).backward()
    assert logp_S.grad.tolist() == pytest.approx([0.8, 0.1])


def test_beta_zero_is_gradient_difference():
    model, given = table(3), {"forget": batch(), "retain": batch(OTHER)}
    ours = WGA(WGAConfig(beta=0.0)).loss(model, given, BOTH)
    plain = GradDiff(GradDiffConfig()).loss(model, given, BOTH)
    assert {n: t.total.item() for n, t in ours.items()} == {n: t.total.item() for n, t in plain.items()}


def test_what_is_lost_ends_and_what_is_sure_moves_as_by_ascent():
    logp_S = torch.tensor([-60.0, 0.0], requires_grad=True)
    weighted_ascent_loss(logp_S, beta=1.0).backward()
    assert logp_S.grad.tolist() == pytest.approx([0.0, 1.0], abs=1e-12)


def test_no_reference_is_built_that_nothing_asks():
    assert not WGA.asks_reference_on(WGAConfig())


def test_a_negative_power_is_refused():
    with pytest.raises(PlanError, match=r"wga\.beta = -1: .*greater than or equal to 0"):
        methods.configure("wga", {"beta": -1})
