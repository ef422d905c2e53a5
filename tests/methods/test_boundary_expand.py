"""Boundary expand: the shadow's loss by hand, its gradient, and what is left when the shadow is gone."""

from __future__ import annotations

import math

import pytest
import torch
from tests.methods.classes import LinearImages, images

from palimpsest import methods
from palimpsest.contract import Phase
from palimpsest.errors import PlanError
from palimpsest.methods.boundary_expand import BoundaryExpand, runner_up, shadow_loss

PHASE = Phase("joint", ("forget",))


def test_by_hand():
    """Logits ln 2 and ln 3, a shadow at ln 5: −log(5 / (2 + 3 + 5)) = ln 2."""
    loss = shadow_loss(torch.tensor([[math.log(2), math.log(3)]]), math.log(5))
    assert loss.item() == pytest.approx(math.log(2), rel=1e-6)


def test_it_is_the_cross_entropy_of_a_class_more():
    torch.manual_seed(0)
    logits = torch.randn(7, 4)
    wide = torch.cat([logits, torch.full((7, 1), 0.3)], dim=1)
    whole = torch.nn.functional.cross_entropy(wide, torch.full((7,), 4), reduction="sum")
    assert shadow_loss(logits, 0.3).item() == pytest.approx(whole.item(), rel=1e-6)


def test_far_above_every_class_it_pulls_at_nothing_and_far_below_as_the_probability():
    logits = torch.tensor([[2.0, 0.0]], requires_grad=True)
    shadow_loss(logits, 60.0).backward()
    assert logits.grad.abs().max() < 1e-20
    logits.grad = None
    shadow_loss(logits, -60.0).backward()
    assert torch.allclose(logits.grad, logits.detach().softmax(1), atol=1e-6)


def test_the_shadow_stands_where_the_runner_up_does():
    """x = (1, 0) and (0, 1): right logits 4, the largest others 0 and 1."""
    model = LinearImages([[4.0, 1.0], [0.0, 4.0], [-4.0, -4.0]])
    assert runner_up(model, images("f", [[255, 0], [0, 255]], [0, 1])) == pytest.approx((0.0 + 1.0) / 2)


def test_once_the_shadow_is_dropped_no_class_is_sure():
    model, forget = LinearImages([[4.0, 0.0], [0.0, 4.0], [-4.0, -4.0]]), images("f", [[204, 51], [179, 77]], [0, 0])
    method = BoundaryExpand(methods.configure("boundary_expand", {}))
    method.prepare(model, {"forget": forget})
    batch, optimizer = forget.batch(forget.ids), torch.optim.SGD(model.parameters(), lr=0.2)
    before = batch.predict(model).logp_S.exp()
    for _ in range(300):
        optimizer.zero_grad()
        method.loss(model, {"forget": batch}, PHASE)["shadow"].total.backward()
        optimizer.step()
    after = batch.predict(model)
    assert (before > 0.8).all()
    assert (after.logp_S.exp() < 0.5).all()
    assert after.logits_SV.shape[1] == 3


def test_in_logits_alone_the_own_class_would_stay_the_likeliest():
    """Why it is not for single images: dz_c = −p_c keeps the order of the logits, it only closes the gaps."""
    logits = torch.tensor([[6.0, 2.0, 1.0]], requires_grad=True)
    for _ in range(2000):
        (gradient,) = torch.autograd.grad(shadow_loss(logits, 2.0), logits)
        logits = (logits - 0.01 * gradient).detach().requires_grad_()
    assert logits.argmax() == 0
    assert logits[0, 0] - logits[0, 1] < 0.1


def test_options_are_refused():
    with pytest.raises(PlanError, match="unknown option of boundary_expand 'shadow'"):
        methods.configure("boundary_expand", {"shadow": 1})
