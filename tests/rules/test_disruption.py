"""Disruption: the mask by hand, its norm, and that what must stay gets no worse."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from tests.rules.asked_by_hand import AskedByHand, Weights, gradient_under, stacked

from palimpsest import rules
from palimpsest.contract import Phase

# The rows that stay have the gradient (−1, −2, 3), forgetting (−4, 3, 1), the rest of the objective (1, 1, 1).
STAYING, FORGETTING = torch.tensor([-1.0, -2.0, 3.0]), torch.tensor([-4.0, 3.0, 1.0])
LOSSES = {"forget": lambda w: FORGETTING @ w, "retain": lambda w: w.sum()}


class Rows:
    """A set of one row whose −log p has a gradient that is known."""

    ids = ("a",)

    def plain(self):
        return self

    def batch(self, ids):
        return self

    def to(self, device):
        return self

    def predict(self, model):
        return SimpleNamespace(logp_S=-(STAYING @ model.w).reshape(1))


def masked(**options):
    return rules.rule_of({"kind": "disruption", **options})


@pytest.mark.parametrize(
    ("options", "by_hand"),
    [
        ({}, [-3.0, 0.0, 2.0]),  # the second disagrees
        ({"strict": False}, [-3.0, 1.0, 2.0]),  # and is then moved by the rest alone
        ({"norm": 17.0**0.5 / 2}, [-1.0, 0.0, 1.5]),  # ‖(−4, 0, 1)‖ = √17, halved
    ],
)
def test_by_hand(options, by_hand):
    ask = AskedByHand(Weights(1.0, 1.0, 1.0), LOSSES)
    gradient, said = gradient_under(ask, masked(**options), sets={"retain": Rows()})
    assert gradient == pytest.approx(by_hand)
    assert said.terms == {"forget": 0.0, "retain": 3.0}


@pytest.mark.parametrize("strict", [True, False])
def test_weights_that_disagree_stay_whatever_the_optimizer_does(strict):
    model = Weights(1.0, 1.0, 1.0)
    stack = stacked(model, masked(strict=strict), sets={"retain": Rows()})
    phase = Phase("joint", ("forget", "retain"))
    stack.asking(model, phase, AskedByHand(model, LOSSES))()
    with stack.around(model, phase, {}), torch.no_grad():
        model.w.add_(1.0)
    assert model.w.tolist() == ([2.0, 1.0, 2.0] if strict else [2.0, 2.0, 2.0])
    assert stack.diagnostics(0.1) == {"disruption/agreeing": pytest.approx(2 / 3)}


def test_a_small_step_makes_no_row_that_was_looked_at_worse():
    """g · g_r is a sum of products of numbers of one sign."""
    ask = AskedByHand(Weights(1.0, 1.0, 1.0), {"forget": LOSSES["forget"]})
    gradient, _ = gradient_under(ask, masked(), sets={"retain": Rows()})
    assert torch.tensor(gradient) @ STAYING > 0


def test_a_step_of_repair_is_left_alone():
    ask = AskedByHand(Weights(1.0, 1.0, 1.0), LOSSES)
    gradient, _ = gradient_under(ask, masked(), phase=Phase("repair", ("retain",)), sets={"retain": Rows()})
    assert gradient == [-3.0, 4.0, 2.0]
    assert len(ask.calls) == 1


def test_it_masks_what_smooth_gives_and_says_what_it_reads():
    """L_f = Σ w²/2 at (3, −4) with rho 1: ∇L_f(θ + ε) = 1.2 (3, −4); rows that stay pull by (−1, −2)."""
    model = Weights(3.0, -4.0, 0.0)
    ask = AskedByHand(model, {"forget": lambda w: w.square().sum() / 2})
    smooth = rules.rule_of({"kind": "smooth", "rho": 1.0})
    gradient, _ = gradient_under(ask, masked(), smooth, sets={"retain": Rows(), "forget": Rows()})
    assert gradient == pytest.approx([0.0, -4.8, 0.0])
    assert rules.reads([{"kind": "disruption", "of": "replay"}]) == {"forget": "disruption", "replay": "disruption"}
