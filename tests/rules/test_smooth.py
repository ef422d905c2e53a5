"""Smooth: SAM by hand and against autograd, the noise, the average, and what it leaves alone."""

from __future__ import annotations

import pytest
import torch
from tests.contract.test_methods import new_model, random_set
from tests.rules.asked_by_hand import PHASE, AskedByHand, Weights, gradient_under, stacked

from palimpsest import methods, rules
from palimpsest.contract import Phase
from palimpsest.errors import PlanError
from palimpsest.loop.job import Job
from palimpsest.loop.machine import Machine
from palimpsest.loop.training import Training
from palimpsest.rules.rule import Setting
from palimpsest.rules.rule_stack import RuleStack
from palimpsest.rules.smooth import smoothing_noise

A = torch.tensor([[2.0, 0.5], [0.5, 1.0]])
QUADRATIC = {"forget": lambda w: w @ A @ w / 2, "retain": lambda w: (w - 1).square().sum()}


def smooth(**options):
    return rules.rule_of({"kind": "smooth", **options})


def test_sam_by_hand_on_a_parabola():
    """L_f = w²/2 at w = 3: g = 3, ε = 0.5, ∇L_f(3.5) = 3.5; L_r = (w − 1)²: 4, at 3 and not at 3.5."""
    ask = AskedByHand(Weights(3.0), {"forget": lambda w: w.square().sum() / 2, "retain": lambda w: (w - 1) @ (w - 1)})
    gradient, said = gradient_under(ask, smooth(rho=0.5))
    assert gradient == [7.5]
    assert said.loss == 8.5
    assert said.terms == {"forget": 4.5, "retain": 4.0}  # as they are here
    assert ask.model.w.tolist() == [3.0]
    assert [aside for _, aside, *_ in ask.calls] == [True, True, False]


def test_sam_is_the_gradient_of_autograd_at_the_worst_place():
    w = torch.tensor([0.3, -1.7], requires_grad=True)
    (g,) = torch.autograd.grad(QUADRATIC["forget"](w), w)
    there = (w + 0.2 * g / g.norm()).detach().requires_grad_()
    (at_there,) = torch.autograd.grad(QUADRATIC["forget"](there), there)
    (kept,) = torch.autograd.grad(QUADRATIC["retain"](w), w)
    gradient, _ = gradient_under(AskedByHand(Weights(0.3, -1.7), QUADRATIC), smooth(rho=0.2))
    assert gradient == pytest.approx((at_there + kept).tolist(), rel=1e-6)


def test_noise_is_relative_and_by_seed_name_and_number_alone():
    weights = torch.full((4000,), 3.0)
    drawn = smoothing_noise("a", weights, 0.1, 0, 5)
    assert drawn.std().item() == pytest.approx(0.3, rel=0.05)
    assert torch.equal(drawn, smoothing_noise("a", weights, 0.1, 0, 5))
    assert all(
        not torch.equal(drawn, smoothing_noise(n, weights, 0.1, s, k))
        for n, s, k in (("b", 0, 5), ("a", 1, 5), ("a", 0, 6))
    )


def test_random_smoothing_is_the_mean_of_what_the_places_say():
    model = Weights(2.0, -1.0)
    at = [model.w.detach() + smoothing_noise("w", model.w, 0.5, 0, number) for number in range(3)]
    by_hand = sum(A @ w for w in at) / 3 + 2 * (model.w.detach() - 1)
    gradient, _ = gradient_under(AskedByHand(model, QUADRATIC), smooth(by="rs", rho=0.5, draws=3))
    assert gradient == pytest.approx(by_hand.tolist(), rel=1e-5)
    assert model.w.tolist() == [2.0, -1.0]


def test_the_average_is_of_all_steps_while_they_are_few():
    model = Weights(9.0)
    stack = stacked(model, smooth(by="wa", last=3))
    for move in (1.0, 2.0, 3.0, 4.0):
        stack.reopen(model)
        with stack.around(model, PHASE, {}), torch.no_grad():
            model.w.add_(move)
        stack.settle(model)
    # 10, 12, 15: mean 37 / 3; then a third of the way to 19
    assert model.w.item() == pytest.approx(37 / 3 + (19 - 37 / 3) / 3)


@pytest.mark.parametrize("by", ["sam", "rs"])
def test_a_step_of_repair_is_left_alone(by):
    ask = AskedByHand(Weights(3.0, 1.0), QUADRATIC)
    gradient_under(ask, smooth(by=by), phase=Phase("repair", ("retain", "replay")))
    assert [(sets, aside) for sets, aside, *_ in ask.calls] == [(("forget", "retain"), False)]


def test_micro_batches_change_nothing(tmp_path):
    def after(size: int | None):
        method, sets = (
            methods.load("npo")(methods.configure("npo", {})),
            {name: random_set(name, 6, seed) for seed, name in enumerate(("forget", "retain"))},
        )
        model = new_model()
        method.reference = _Itself()
        method.prepare(model, sets)
        stack = RuleStack((), [smooth(rho=0.1)], Setting(tmp_path))
        stack.prepare(model, sets, sets)
        training = Training(learning_rate=1e-3, batch_size=4, micro_batch_size=size, max_steps=2)
        machine = Machine(Job(method, model, sets, training, tmp_path, rules=stack), bounded=True)
        machine.state.anchor = machine.state.anchor.restart(machine.state.anchor.ids)
        result = machine.iterate(1e-3, 10)
        return result.grad_norm

    assert after(None) == pytest.approx(after(2), rel=1e-4)


class _Itself:
    """Says what the model says."""

    def predict(self, model, batch):
        return batch.predict(model)


def test_two_that_decide_one_thing_are_refused():
    with pytest.raises(PlanError, match="already decides where a step takes its gradient"):
        rules.chosen([{"kind": "smooth"}, {"kind": "sign", "zeroth": 2}])
    with pytest.raises(PlanError, match="already decides how the weights of several steps are averaged"):
        rules.chosen([{"kind": "smooth", "by": "wa"}, {"kind": "ema"}])
    assert len(rules.chosen([{"kind": "smooth"}, {"kind": "smooth", "by": "wa"}, {"kind": "sign"}])) == 3
