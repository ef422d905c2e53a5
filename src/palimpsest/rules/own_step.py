"""A step of the run's optimizer for gradients that have a momentum of their own, so that nothing else moves with them.

    m ← μ m + (1 − μ) g                      g = 0 where there is none
    SGD      θ ← θ − η m / (1 − μ)           μ its momentum
    AdamW    θ ← θ − η m / (√v̂ + ε)          μ = β₁, v̂ = (β₂ v + (1 − β₂) m²) / (1 − β₂^(t+1)), t steps taken so far

A step of the optimizer itself would also move by what it remembers of *other* gradients: between repair steps, a fast
step whose own gradient has been annealed to a thousandth still moves about as far as a repair step, and momentum that a
mask holds back is spent without effect. Taken at once, without any momentum, the same way is a leap along one noisy
direction, out of where its gradient holds (docs/log.md). Here θ moves in proportion to the g given so far, exactly
nothing where all of them were 0, and the optimizer's moments, counters and weight decay are left as they are.

Source: ours. A gradient that is followed by none goes all the way η g / (1 − μ), or η g / (√v̂ + ε) for a constant v̂,
that it would have gone by the optimizer, because Σ_k (1 − μ) μ^k = 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any

import torch
from torch import Tensor, nn

from palimpsest.errors import PlanError
from palimpsest.models.scope import trainable

Memory = MutableMapping[str, Tensor]
"""m by parameter name, each in the shape of its parameter."""
_CHUNK = 1 << 18  # elements that stay in the processor's cache over all operations of a step


class OptimizerStep:
    """What ``Method.update`` gets: call it for one step of the optimizer, or take a step with ``own`` momentum.

    Attributes:
        optimizer: of the run.
        terms: the means of the terms of the loss whose gradients are at hand, before their weights.
    """

    def __init__(self, optimizer: Any, terms: Mapping[str, float] | None = None) -> None:
        self.optimizer = optimizer
        self.terms = terms or {}

    def __call__(self) -> None:
        """One step of the optimizer."""
        self.optimizer.step()

    @torch.no_grad()
    def own(self, model: nn.Module, memory: Memory) -> None:
        """Take the gradients at hand into a memory, and move along it at each group's learning rate.

        Args:
            model: its trainable parameters move; with or without gradients.
            memory: changed in place; holds the parameters that ever had a gradient.

        Raises:
            PlanError: the optimizer is neither SGD (no dampening, no Nesterov momentum) nor AdamW.
        """
        group_of = {parameter: group for group in self.optimizer.param_groups for parameter in group["params"]}
        for name, parameter in trainable(model).items():
            if parameter.grad is None and name not in memory:
                continue
            group = group_of[parameter]
            kept = memory[name].to(parameter.device) if name in memory else torch.zeros_like(parameter)
            memory[name] = _recalled(kept, parameter.grad, _decay(group))  # a resumed run reads it on the processor
            move_(parameter, memory[name], group, self.optimizer.state.get(parameter, {}))


def _recalled(kept: Tensor, gradient: Tensor | None, decay: float) -> Tensor:
    """μ m + (1 − μ) g, in place."""
    return kept.mul_(decay) if gradient is None else kept.lerp_(gradient, 1 - decay)


def move_(parameter: Tensor, along: Tensor, group: Mapping[str, Any], state: Mapping[str, Any]) -> None:
    """Move one parameter, in place.

    Args:
        parameter: any shape.
        along: m, in the same shape.
        group: options of the optimizer, as in ``param_groups``.
        state: what the optimizer remembers of this parameter; empty before its first step.

    Raises:
        PlanError: as ``OptimizerStep.own``.
    """
    rate, decay = float(group["lr"]), _decay(group)
    if "betas" not in group:
        parameter.sub_(along, alpha=rate / (1 - decay))
        return
    beta = group["betas"][1]
    unbias = 1 / (1 - beta ** (float(state.get("step", 0.0)) + 1))
    squares = [state["exp_avg_sq"]] if state else []
    for part, direction, *square in _chunks(parameter, along, *squares):
        size = square[0] * (beta * unbias) if square else torch.zeros_like(direction)
        size.addcmul_(direction, direction, value=(1 - beta) * unbias).sqrt_().add_(group["eps"])
        part.addcdiv_(direction, size, value=-rate)


def _decay(group: Mapping[str, Any]) -> float:
    """μ of an optimizer."""
    if "betas" in group and not group.get("amsgrad"):
        return float(group["betas"][0])
    if "dampening" in group and not (group["dampening"] or group["nesterov"]):
        return float(group["momentum"])
    raise PlanError(
        "a step with its own momentum is defined for SGD without dampening or Nesterov momentum, and for AdamW"
    )


def _chunks(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Views of the same part of each tensor, one part after the other; all of them where one is not in one piece."""
    if all(tensor.is_contiguous() for tensor in tensors):
        return zip(*(torch.split(tensor.view(-1), _CHUNK) for tensor in tensors), strict=True)
    return iter([tensors])
