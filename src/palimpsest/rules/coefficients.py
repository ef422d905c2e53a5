"""Adaptive weights of examples, made from their own losses and detached from them.

    w^U_i = l_i^-lambda      forgetting: what is still remembered (small loss) weighs most
    w^L_i = l_i^+lambda      learning: what is not learned yet (large loss) weighs most
    L     = sum_i w_i l_i / sum_i w_i

Source: w^U is the adaptive coefficient of Huang et al., arXiv:2409.19732 (SFR-on); w^L our reading of UG-CLU,
arXiv:2505.15178, whose formula is not public: per-example learn weight 1 - e^L, which falls as the example is learned.
The annealing factor of the same coefficients is ``rules/schedule.py``.
Departs from the paper: losses are floored where its code adds 1e-15 to l^lambda, which lets l = 0 weigh 1e15.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

LOSS_FLOOR = torch.finfo(torch.float32).eps
"""Nats. The smallest loss that an fp32 softmax tells from 0; smaller ones weigh as much as this."""


def inverse_power(loss_B: Float[Tensor, "B"], temperature: float) -> Float[Tensor, "B"]:
    """w^U: loss to the power of minus lambda, detached, not normalised.

    Args:
        loss_B: of each example, nats, >= 0, any float dtype.
        temperature: lambda >= 0; 0 weighs all examples alike, 1 makes ``weighted_mean`` the harmonic mean.

    Returns:
        (B,), at least fp32, positive and finite; for the mean over a batch divide by the sum over that batch.
    """
    return power(loss_B, -temperature)


def power(loss_B: Float[Tensor, "B"], temperature: float) -> Float[Tensor, "B"]:
    """w^L: loss to the power of lambda, detached, not normalised; arguments as of ``inverse_power``."""
    wide_B = loss_B.detach().to(torch.promote_types(loss_B.dtype, torch.float32))
    return wide_B.clamp_min(LOSS_FLOOR).pow(temperature)


def weighted_mean(loss_B: Float[Tensor, "B"], weight_B: Float[Tensor, "B"]) -> Float[Tensor, ""]:
    """L: sum of w l over sum of w; no gradient goes through the weights, whatever they come from."""
    weight_B = weight_B.detach()
    return (weight_B * loss_B).sum() / weight_B.sum()


def may_ascend(loss_B: Float[Tensor, "B"], target: float | None) -> Float[Tensor, "B"]:
    """1 where an example may still be ascended, 0 at or above the target loss in nats; None = no such level.

    >>> may_ascend(torch.tensor([0.5, 2.0]), target=1.0).tolist()
    [1.0, 0.0]
    """
    return torch.ones_like(loss_B) if target is None else (loss_B.detach() < target).to(loss_B.dtype)
