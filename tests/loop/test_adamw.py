"""Fused where it can be, with the numbers of the plain one; and never wrong about how things lie in memory."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from palimpsest.loop.adamw import adamw, step_device
from palimpsest.loop.checkpoint import load_checkpoint, save_checkpoint
from palimpsest.loop.training import Training

HOW = {"lr": 0.1, "betas": (0.9, 0.99), "weight_decay": 0.05}


def twins(values: torch.Tensor) -> tuple[nn.Parameter, nn.Parameter]:
    """Two parameters of the same values and the same strides."""
    return nn.Parameter(values), nn.Parameter(torch.empty_like(values).copy_(values))


def is_fused(optimizer: torch.optim.Optimizer) -> bool:
    return bool(optimizer.param_groups[0]["fused"])


@pytest.mark.parametrize("gradient_lies", ["alike", "across"])
@pytest.mark.parametrize("parameter_lies", ["contiguous", "transposed"])
def test_fused_steps_are_those_of_the_plain_optimizer(parameter_lies, gradient_lies):
    """By another order in memory than its parameter's a gradient would be read in the wrong order."""
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(5, 7, generator=generator)
    values = values if parameter_lies == "contiguous" else torch.randn(7, 5, generator=generator).t()
    mine, other = twins(values)
    fused, plain = adamw([mine], **HOW), torch.optim.AdamW([other], **HOW, foreach=False)
    assert is_fused(fused)
    for _ in range(4):
        gradient = torch.randn(5, 7, generator=generator)
        across = torch.empty(7, 5).t().copy_(gradient)
        contiguous = gradient_lies == "alike" and parameter_lies == "contiguous"
        alike = gradient if contiguous else torch.empty_like(mine).copy_(gradient)
        mine.grad = alike if gradient_lies == "alike" else (across if mine.is_contiguous() else gradient)
        other.grad = gradient.clone()
        assert (mine.grad.stride() == mine.stride()) == (gradient_lies == "alike")
        fused.step()
        plain.step()
    assert torch.allclose(mine, other, atol=1e-6)
    assert fused.state[mine].keys() == plain.state[other].keys()


@pytest.mark.parametrize(
    "parameter",
    [nn.Parameter(torch.ones(4, 6)[:, ::2]), nn.Parameter(torch.ones(2, device="meta"))],
    ids=["with gaps", "another device"],
)
def test_what_no_kernel_takes_is_moved_step_by_step(parameter):
    assert not is_fused(adamw([nn.Parameter(torch.ones(3)), parameter], **HOW))


def test_gaps_in_memory_are_stepped_over():
    mine, other = nn.Parameter(torch.ones(4, 6)[:, ::2]), nn.Parameter(torch.ones(4, 3))
    for parameter in (mine, other):
        parameter.grad = torch.arange(12.0).reshape(4, 3)
        adamw([parameter], **HOW).step()
    assert torch.allclose(mine, other)


def test_a_run_has_it_fused(tiny_llama):
    assert is_fused(Training().new_optimizer(tiny_llama.parameters()))


def test_the_step_counter_is_where_each_kind_has_it():
    parameter = nn.Parameter(torch.ones(2, device="meta"))
    fused, plain = (torch.optim.AdamW([nn.Parameter(torch.ones(2))], fused=fused) for fused in (True, False))
    assert step_device(fused, parameter).type == "meta"
    assert step_device(plain, parameter).type == "cpu"


def test_a_checkpoint_brings_back_moments_as_the_parameter_lies(tmp_path):
    """Saved in one piece, read back transposed: the next step has the same bits."""
    model = nn.Module()
    model.weight = nn.Parameter(torch.randn(7, 5, generator=torch.Generator().manual_seed(1)).t())
    gradients = torch.randn(3, 5, 7, generator=torch.Generator().manual_seed(2))

    def steps(optimizer, some):
        for gradient in some:
            model.weight.grad = gradient.clone()
            optimizer.step()

    first = adamw([model.weight], **HOW)
    steps(first, gradients[:2])
    save_checkpoint(tmp_path / "checkpoint.safetensors", model, first, state={})
    steps(first, gradients[2:])
    whole = model.weight.detach().clone()
    again = adamw([model.weight], **HOW)
    load_checkpoint(tmp_path / "checkpoint.safetensors", model, again)
    steps(again, gradients[2:])
    assert torch.equal(model.weight, whole)
