"""A step alone: against the optimizer itself, run on until its momentum has died away, and without a first moment."""

import copy

import pytest
import torch

from palimpsest.errors import PlanError
from palimpsest.updates.alone import OptimizerStep


def trained(optimizer_type, steps=3, **options):
    """A weight that took some steps on random gradients, and its optimizer."""
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(5, 3, dtype=torch.float64))
    optimizer = optimizer_type([weight], lr=0.1, **options)
    for _ in range(steps):
        weight.grad = torch.randn_like(weight)
        optimizer.step()
    return weight, optimizer


def moved(weight, step):
    before = weight.detach().clone()
    step()
    return weight.detach() - before


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_sgd_goes_as_far_as_its_momentum_would_in_the_end(momentum):
    weight, optimizer = trained(torch.optim.SGD, momentum=momentum, steps=0)
    gradient = torch.randn_like(weight)
    other = torch.nn.Parameter(weight.detach().clone())
    reference = torch.optim.SGD([other], lr=0.1, momentum=momentum)
    start = other.detach().clone()
    for step in range(400):
        other.grad = gradient if step == 0 else torch.zeros_like(other)
        reference.step()
    weight.grad = gradient
    assert torch.allclose(moved(weight, OptimizerStep(optimizer).alone), other.detach() - start, atol=1e-14)


def test_adamw_is_adamw_without_first_moment_and_decay():
    weight, optimizer = trained(torch.optim.AdamW, betas=(0.9, 0.98), weight_decay=0.1)
    other = torch.nn.Parameter(weight.detach().clone())
    reference = torch.optim.AdamW([other], lr=0.1, betas=(0.0, 0.98), weight_decay=0.0)
    reference.load_state_dict(
        {**copy.deepcopy(optimizer.state_dict()), "param_groups": reference.state_dict()["param_groups"]}
    )
    weight.grad = torch.randn_like(weight)
    other.grad = weight.grad.clone()
    ours = moved(weight, OptimizerStep(optimizer).alone)
    assert torch.allclose(ours, moved(other, reference.step), atol=1e-14)
    assert ours.abs().max() > 0.01


def test_adamw_before_its_first_step_goes_one_rate_in_the_sign_of_the_gradient():
    weight, optimizer = trained(torch.optim.AdamW, steps=0)
    weight.grad = torch.randn_like(weight)
    assert torch.allclose(moved(weight, OptimizerStep(optimizer).alone), -0.1 * weight.grad.sign(), atol=1e-6)


@pytest.mark.parametrize(
    ("optimizer_type", "options"),
    [(torch.optim.SGD, {"momentum": 0.9, "weight_decay": 0.1}), (torch.optim.AdamW, {"weight_decay": 0.1})],
)
def test_memory_is_left_alone_and_no_gradient_is_no_move(optimizer_type, options):
    weight, optimizer = trained(optimizer_type, **options)
    before = copy.deepcopy(optimizer.state_dict())
    weight.grad = torch.randn_like(weight)
    weight.grad[0] = 0.0
    changed = moved(weight, OptimizerStep(optimizer).alone)
    assert torch.equal(changed[0], torch.zeros(3, dtype=torch.float64))
    assert (changed[1:] != 0).all()
    after = optimizer.state_dict()
    for name, value in before["state"][0].items():
        assert torch.equal(torch.as_tensor(value), torch.as_tensor(after["state"][0][name])), name
    weight.grad = None
    assert not moved(weight, OptimizerStep(optimizer).alone).any()


def test_called_it_is_the_optimizers_own_step():
    weight, optimizer = trained(torch.optim.SGD, momentum=0.9)
    weight.grad = torch.zeros_like(weight)
    assert moved(weight, OptimizerStep(optimizer)).abs().max() > 0  # momentum


@pytest.mark.parametrize(
    ("optimizer_type", "options"),
    [(torch.optim.RMSprop, {}), (torch.optim.SGD, {"momentum": 0.9, "nesterov": True}), (torch.optim.Adagrad, {})],
)
def test_other_optimizers_are_refused(optimizer_type, options):
    weight, optimizer = trained(optimizer_type, steps=0, **options)
    weight.grad = torch.ones_like(weight)
    with pytest.raises(PlanError, match="AdamW"):
        OptimizerStep(optimizer).alone()
