"""A step with its own momentum: against an optimizer of its own, step by step, and by hand."""

import copy

import pytest
import torch

from palimpsest.errors import PlanError
from palimpsest.rules import own_step
from palimpsest.rules.own_step import OptimizerStep


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


def step_of(weight, optimizer, memory=None):
    """A step with momentum of its own, of one weight."""
    model = torch.nn.ParameterDict({"w": weight})
    memory = {} if memory is None else memory
    return lambda: OptimizerStep(optimizer).own(model, memory)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_sgd_goes_every_step_of_its_momentum(momentum):
    """One gradient and then none: step by step what an optimizer of its own would have made of it."""
    weight, optimizer = trained(torch.optim.SGD, momentum=momentum, weight_decay=0.1)
    other = torch.nn.Parameter(weight.detach().clone())
    reference = torch.optim.SGD([other], lr=0.1, momentum=momentum)
    memory: dict[str, torch.Tensor] = {}
    for gradient in (torch.randn_like(weight), None, torch.randn_like(weight), None, None):
        weight.grad = gradient
        other.grad = torch.zeros_like(other) if gradient is None else gradient
        ours = moved(weight, step_of(weight, optimizer, memory))
        assert torch.allclose(ours, moved(other, reference.step), atol=1e-14)
    assert moved(weight, step_of(weight, optimizer, memory)).abs().max() > 0 or momentum == 0


def test_the_whole_way_of_a_gradient_is_what_the_optimizer_would_have_gone():
    weight, optimizer = trained(torch.optim.SGD, momentum=0.9, steps=0)
    weight.grad = gradient = torch.randn_like(weight)
    start, memory = weight.detach().clone(), {}
    for _ in range(400):
        step_of(weight, optimizer, memory)()
        weight.grad = None
    assert torch.allclose(weight.detach(), start - 0.1 * gradient / (1 - 0.9), atol=1e-14)


def test_adamw_without_first_moment_is_adamw_without_decay():
    weight, optimizer = trained(torch.optim.AdamW, betas=(0.0, 0.98), weight_decay=0.1)
    other = torch.nn.Parameter(weight.detach().clone())
    reference = torch.optim.AdamW([other], lr=0.1, betas=(0.0, 0.98), weight_decay=0.0)
    reference.load_state_dict(
        {**copy.deepcopy(optimizer.state_dict()), "param_groups": reference.state_dict()["param_groups"]}
    )
    weight.grad = torch.randn_like(weight)
    other.grad = weight.grad.clone()
    ours = moved(weight, step_of(weight, optimizer))
    assert torch.allclose(ours, moved(other, reference.step), atol=1e-14)
    assert ours.abs().max() > 0.01


def test_adamw_by_hand():
    """β = (0.9, 0.5), one step taken with gradient 2: v = 2. Now g = 1: m = 0.1, v̂ = (0.5·2 + 0.5·0.01) / 0.75."""
    weight = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    optimizer = torch.optim.AdamW([weight], lr=0.1, betas=(0.9, 0.5), eps=0.0, weight_decay=0.0)
    weight.grad = torch.full_like(weight, 2.0)
    optimizer.step()
    weight.grad = torch.ones_like(weight)
    memory: dict[str, torch.Tensor] = {}
    assert moved(weight, step_of(weight, optimizer, memory)).item() == pytest.approx(-0.1 * 0.1 / (1.005 / 0.75) ** 0.5)
    weight.grad = None
    again = moved(weight, step_of(weight, optimizer, memory)).item()
    assert again == pytest.approx(-0.1 * 0.09 / ((1 + 0.5 * 0.0081) / 0.75) ** 0.5)


def test_a_step_in_chunks_is_the_step_at_once(monkeypatch):
    ends = []
    for size in (1, 4, 1 << 16):
        monkeypatch.setattr(own_step, "_CHUNK", size)
        weight, optimizer = trained(torch.optim.AdamW)
        weight.grad = torch.randn_like(weight)
        step_of(weight, optimizer)()
        ends.append(weight.detach().clone())
    assert torch.equal(ends[0], ends[2])
    assert torch.equal(ends[1], ends[2])


def test_a_weight_that_is_not_in_one_piece_moves_alike():
    ends = []
    for turned in (False, True):
        weight, optimizer = trained(torch.optim.AdamW)
        weight.grad = torch.randn_like(weight)
        if turned:
            weight.data = weight.data.t().contiguous().t()
        step_of(weight, optimizer)()
        ends.append(weight.detach().clone())
    assert torch.equal(*ends)


@pytest.mark.parametrize(
    ("optimizer_type", "options"),
    [(torch.optim.SGD, {"momentum": 0.9, "weight_decay": 0.1}), (torch.optim.AdamW, {"weight_decay": 0.1})],
)
def test_the_optimizers_memory_is_left_alone_and_no_gradient_is_no_move(optimizer_type, options):
    weight, optimizer = trained(optimizer_type, **options)
    before = copy.deepcopy(optimizer.state_dict())
    weight.grad = torch.randn_like(weight)
    weight.grad[0] = 0.0
    changed = moved(weight, step_of(weight, optimizer))
    assert torch.equal(changed[0], torch.zeros(3, dtype=torch.float64))
    assert (changed[1:] != 0).all()
    after = optimizer.state_dict()
    for name, value in before["state"][0].items():
        assert torch.equal(torch.as_tensor(value), torch.as_tensor(after["state"][0][name])), name
    weight.grad = None
    assert not moved(weight, step_of(weight, optimizer)).any()  # nothing remembered


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
        step_of(weight, optimizer)()
