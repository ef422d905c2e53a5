"""Sign: one bit, few bits, and steps by two values of the loss, by hand."""

from __future__ import annotations

import pytest
import torch
from tests.rules.asked_by_hand import PHASE, AskedByHand, Weights, gradient_under, stacked

from palimpsest import rules
from palimpsest.contract import Phase
from palimpsest.errors import PlanError
from palimpsest.rules.own_step import OptimizerStep
from palimpsest.rules.sign import quantised

LOSSES = {"forget": lambda w: w @ torch.tensor([1.0, -3.0, 0.0]), "retain": lambda w: w.sum()}


def sign(**options):
    return rules.rule_of({"kind": "sign", **options})


def test_one_bit_is_a_step_of_the_rate_against_each_sign():
    model = Weights(1.0, 1.0, 1.0)
    stack = stacked(model, sign())
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.25, weight_decay=0.5)
    model.w.grad = torch.tensor([5.0, -1e-9, 0.0])
    stack.stepping(PHASE, OptimizerStep(optimizer))()
    assert model.w.tolist() == [0.875 - 0.25, 0.875 + 0.25, 0.875]
    assert not optimizer.state  # its moments are nobody's here
    repair = OptimizerStep(optimizer)
    assert stack.stepping(Phase("repair", ("retain",)), repair) is repair


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_few_bits_are_the_nearest_of_so_many_values(bits):
    g, steps = torch.randn(50, generator=torch.Generator().manual_seed(0)), 2 ** (bits - 1) - 1
    levels = [g.abs().max().item() * k / steps for k in range(-steps, steps + 1)]
    assert len(levels) == 2**bits - 1
    by_loop = [min(levels, key=lambda level, x=x: abs(level - x)) for x in g.tolist()]
    assert quantised(g, bits).tolist() == pytest.approx(by_loop, abs=1e-6)
    gradient, _ = gradient_under(AskedByHand(Weights(0.0, 0.0, 0.0), LOSSES), sign(bits=bits))
    assert gradient == pytest.approx(quantised(torch.tensor([2.0, -2.0, 1.0]), bits).tolist())


def test_no_gradient_stays_none():
    assert quantised(torch.zeros(2), 4).tolist() == [0.0, 0.0]


def test_a_zeroth_order_step_goes_along_its_direction_by_the_slope():
    """The loss is linear, so that the slope is g · u exactly: the gradient is (g · u) u."""
    model = Weights(0.5, 0.5, 0.5)
    rule, ask = sign(bits=32, zeroth=2), AskedByHand(Weights(0.5, 0.5, 0.5), LOSSES)
    ask.model = model
    stack = stacked(model, rule)
    found = []
    for _ in range(4):
        model.zero_grad()
        stack.asking(model, PHASE, ask)()
        found.append(model.w.grad.tolist())
        with stack.around(model, PHASE, {}):
            pass
    assert found[0] == found[2] == [2.0, -2.0, 1.0]  # every second one is a gradient
    for number, estimate in ((1, found[1]), (3, found[3])):
        rule._taken = number
        u = rule._direction(model, 0)["w"]
        assert estimate == pytest.approx((u * (u @ torch.tensor([2.0, -2.0, 1.0]))).tolist(), rel=1e-2)
    assert found[1] != found[3]
    assert model.w.tolist() == [0.5, 0.5, 0.5]


def test_over_many_directions_the_estimate_is_the_gradient():
    """E[u uᵀ] = 1, so the mean of 3000 is g but for about ‖g‖ √(2 / 3000)."""
    gradient, _ = gradient_under(
        AskedByHand(Weights(0.0, 0.0, 0.0), LOSSES), sign(bits=32, zeroth=1, directions=3000, mu=0.1)
    )
    assert gradient == pytest.approx([2.0, -2.0, 1.0], abs=0.3)


def test_what_changes_nothing_is_refused():
    with pytest.raises(PlanError, match=r"bits = 32 and zeroth = 0 change nothing"):
        rules.build_config("sign", {"bits": 32})
