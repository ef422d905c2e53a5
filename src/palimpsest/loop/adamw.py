"""AdamW in one pass over the memory where there is such a kernel: two to three times faster than step by step.

The fused kernels go through parameter, gradient and moments by address, so all of them have to lie in memory alike; on
the CPU of torch 2.13 one that does not is read in a wrong order without a word. Gradients of ``backward`` lie as their
parameters do, others are laid out anew before the step.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

FUSED_ON = ("cpu", "cuda")


def adamw(
    parameters: Iterable[nn.Parameter], *, lr: float, betas: tuple[float, float], weight_decay: float
) -> torch.optim.AdamW:
    """``torch.optim.AdamW``, fused where all parameters allow it; the state has the same keys either way.

    Args:
        parameters: to move.
        lr: learning rate.
        betas: decay rates of both moments.
        weight_decay: decoupled.
    """
    moved = list(parameters)
    fused = bool(moved) and all(map(_can_be_fused, moved))
    optimizer = torch.optim.AdamW(moved, lr=lr, betas=betas, weight_decay=weight_decay, fused=fused)
    if fused:
        optimizer.register_step_pre_hook(_lay_out)
    return optimizer


def step_device(optimizer: torch.optim.Optimizer, parameter: Tensor) -> torch.device:
    """Where the optimizer's count of steps of a parameter has to be: beside it if fused, else on the CPU."""
    fused = any(group.get("fused") for group in optimizer.param_groups)
    return parameter.device if fused else torch.device("cpu")


def _can_be_fused(parameter: Tensor) -> bool:
    """A float on a device with such a kernel, in one piece: an empty tensor like it has its strides only then."""
    dense = torch.empty_like(parameter, device="meta").stride() == parameter.stride()
    return parameter.is_floating_point() and parameter.device.type in FUSED_ON and dense


def _lay_out(optimizer: torch.optim.Optimizer, _given: Any, _options: Any) -> None:
    """Give every gradient the strides of its parameter."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            gradient = parameter.grad
            if gradient is not None and gradient.stride() != parameter.stride():
                parameter.grad = torch.empty_like(parameter).copy_(gradient)
