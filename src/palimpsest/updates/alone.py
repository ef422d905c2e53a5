"""A step of the run's optimizer for the gradients at hand alone, all of it at once and nothing of it remembered.

    SGD      θ ← θ − η g / (1 − μ)              all that momentum μ would have made of g in later steps
    AdamW    θ ← θ − η g / (√v̂ + ε)             v̂ = (β₂ v + (1 − β₂) g²) / (1 − β₂^(t+1)), t steps taken so far

A step of the optimizer itself would also move by what it remembers of *other* gradients: between repair steps, a fast
step whose own gradient has been annealed to a thousandth still moves about as far as a repair step (docs/log.md), and
momentum that a mask holds back is spent without effect. Here θ moves in proportion to g (AdamW: as far as g is small
beside √v), exactly nothing where g is 0, and moments, counters and weight decay are left alone.

Source: ours; both limits are exact for a constant metric (v̂ held), as Σ_k μ^k = 1 / (1 − μ).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from palimpsest.errors import PlanError


class OptimizerStep:
    """What ``Method.update`` gets: call it for one step of the optimizer, or take the step ``alone``."""

    def __init__(self, optimizer: Any) -> None:
        self.optimizer = optimizer

    def __call__(self) -> None:
        """One step of the optimizer."""
        self.optimizer.step()

    @torch.no_grad()
    def alone(self) -> None:
        """Move by the gradients at hand, at each group's learning rate; parameters without one stay.

        Raises:
            PlanError: the optimizer is neither SGD (no dampening, no Nesterov momentum) nor AdamW.
        """
        for group in self.optimizer.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    move_(parameter, parameter.grad, group, self.optimizer.state.get(parameter, {}))


def move_(parameter: Tensor, gradient: Tensor, group: Mapping[str, Any], state: Mapping[str, Any]) -> None:
    """Move one parameter by its gradient, in place.

    Args:
        parameter: any shape.
        gradient: in the same shape.
        group: options of the optimizer, as in ``param_groups``.
        state: what the optimizer remembers of this parameter; empty before its first step.

    Raises:
        PlanError: as ``OptimizerStep.alone``.
    """
    rate = float(group["lr"])
    if "betas" in group and not group.get("amsgrad"):
        beta, taken = group["betas"][1], float(state.get("step", 0.0))
        size = state["exp_avg_sq"] * beta if state else torch.zeros_like(gradient)
        size.addcmul_(gradient, gradient, value=1 - beta).div_(1 - beta ** (taken + 1)).sqrt_().add_(group["eps"])
        parameter.addcdiv_(gradient, size, value=-rate)
    elif "dampening" in group and not (group["dampening"] or group["nesterov"]):
        parameter.sub_(gradient, alpha=rate / (1 - group["momentum"]))
    else:
        raise PlanError("a step alone is defined for SGD without dampening or Nesterov momentum, and for AdamW")
