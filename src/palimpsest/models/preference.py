"""Preferring one answer to another: the loss that methods with pairs of answers share."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def preference_loss(win_B: Float[Tensor, "B"], lose_B: Float[Tensor, "B"], beta: float) -> Float[Tensor, ""]:
    """Preference loss, −(2/beta) · log σ(beta · (win − lose)), summed over the pairs.

    Args:
        win_B: log-ratio to the reference of each answer that is preferred, summed over its label tokens, nats.
        lose_B: the same of the row that it stands beside.
        beta: inverse temperature, > 0.

    >>> import torch
    >>> round(preference_loss(torch.tensor([0.0]), torch.tensor([0.0]), beta=1.0).item(), 4)
    1.3863
    """
    return preference_losses(win_B, lose_B, beta).sum()


def preference_losses(win_B: Float[Tensor, "B"], lose_B: Float[Tensor, "B"], beta: float) -> Float[Tensor, "B"]:
    """Preference loss as above of each pair by itself, for who asks of each row alone (an estimate of its gradient)."""
    return -(2 / beta) * F.logsigmoid(beta * (win_B - lose_B))
