"""Task vector: a quadratic by hand, adapters by their product, the budget in closed form, there and back to the bit."""

from __future__ import annotations

import math

import pytest
import torch
from tests.contract.test_methods import random_set
from torch import nn

from palimpsest import methods
from palimpsest.errors import PlanError
from palimpsest.methods.task_vector import TaskVector, TaskVectorConfig
from palimpsest.rules.negated import Negated, line_away
from palimpsest.rules.rule_stack import RuleStack


def no_damage(sets):
    raise AssertionError("lambda was given")


@pytest.fixture
def quadratic():
    """L(θ) = ½ ‖θ − (4, 0)‖² from (0, 2); a step of 1/2 halves the way."""
    return nn.ParameterDict({"theta": nn.Parameter(torch.tensor([0.0, 2.0]))})


def descend(model, steps):
    for _ in range(steps):
        with torch.no_grad():
            model["theta"].sub_(0.5 * (model["theta"] - torch.tensor([4.0, 0.0])))


def test_a_quadratic_by_hand(quadratic):
    """Two steps go to (3, 0.5): τ = (3, −1.5), and with lambda = 2 the end is (−6, 5)."""
    rule = Negated(2.0, 1.0, no_damage)
    rule.prepare(quadratic, {})
    descend(quadratic, 2)
    rule.settle(quadratic)
    assert quadratic["theta"].tolist() == [-6.0, 5.0]
    rule.settle(quadratic)
    assert quadratic["theta"].tolist() == [-6.0, 5.0]
    rule.reopen(quadratic)
    assert quadratic["theta"].tolist() == [3.0, 0.5]
    descend(quadratic, 1)
    rule.settle(quadratic)
    assert quadratic["theta"].tolist() == [-7.0, 5.5]


def test_the_budget_in_closed_form(quadratic):
    """Damage ‖θ − θ₀‖ = lambda ‖τ‖: lambda = B / ‖τ‖, and no farther than the weights are long."""
    start = quadratic["theta"].detach().clone()
    rule = Negated(None, 1.5, lambda _sets: lambda model: float((model["theta"].detach() - start).norm()))
    rule.prepare(quadratic, {})
    descend(quadratic, 2)
    rule.settle(quadratic)
    assert 0.95 * 1.5 <= rule.found.damage <= 1.5
    assert rule.found.size == pytest.approx(rule.found.damage / math.hypot(3, 1.5), rel=1e-5)
    assert torch.allclose(quadratic["theta"], start - rule.found.size * torch.tensor([3.0, -1.5]))


def test_one_that_died_while_it_was_looked_at_goes_on_from_what_was_learned(quadratic):
    rule, again = Negated(2.0, 1.0, no_damage), Negated(2.0, 1.0, no_damage)
    for one in (rule, again):
        one.prepare(quadratic, {})
    descend(quadratic, 2)
    rule.settle(quadratic)
    again.load_state(rule.state())
    again.reopen(quadratic)
    assert quadratic["theta"].tolist() == [3.0, 0.5]


def test_nothing_learned_is_nothing_negated(quadratic):
    rule = Negated(None, 1.0, lambda _sets: no_damage)
    rule.prepare(quadratic, {})
    rule.settle(quadratic)
    assert quadratic["theta"].tolist() == [0.0, 2.0]
    assert rule.state() == {}


def test_of_an_adapter_the_product_is_negated():
    """B₀ = 0, and A has moved too: W − 3 B A, not what negating both factors would give."""
    A0, A, B = torch.randn(2, 5), torch.randn(2, 5), torch.randn(4, 2)
    before = {"q.lora_A.weight": A0, "q.lora_B.weight": torch.zeros(4, 2)}
    learned = {"q.lora_A.weight": A, "q.lora_B.weight": B}
    model = nn.Module()
    model.q = nn.ModuleDict({"lora_A": nn.Linear(5, 2, bias=False), "lora_B": nn.Linear(2, 4, bias=False)})
    line_away(before, learned).put(model, 3.0)
    product = model.q["lora_B"].weight @ model.q["lora_A"].weight
    assert torch.allclose(product, -3 * B @ A, atol=1e-5)


def test_its_steps_descend_on_forget_alone(tiny_llama):
    sets = {"forget": random_set("f", 2, 1), "retain": random_set("r", 2, 2)}
    method = TaskVector(TaskVectorConfig(scale=1.0))
    method.prepare(tiny_llama, sets)
    (phase,) = method.phases(0, 1)
    batch = sets["forget"].batch(sets["forget"].ids)
    term = method.loss(tiny_llama, {"forget": batch}, phase)["forget"]
    assert phase.sets == ("forget",)
    assert term.weight == 1.0
    assert term.total.item() == pytest.approx(-batch.predict(tiny_llama).logp_S.sum().item())
    assert isinstance(RuleStack(method.rules()), RuleStack)


def test_without_retain_lambda_must_be_given(tiny_llama):
    sets = {"forget": random_set("f", 2, 1)}
    with pytest.raises(PlanError, match=r"damage on the retain set, which was not given.*task_vector\.scale"):
        TaskVector(TaskVectorConfig()).prepare(tiny_llama, sets)
    TaskVector(TaskVectorConfig(scale=0.5)).prepare(tiny_llama, sets)
    with pytest.raises(PlanError, match=r"task_vector\.scale = 0: .*greater than 0"):
        methods.configure("task_vector", {"scale": 0})
