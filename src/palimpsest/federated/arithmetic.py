"""Lengths and differences of weights by name, in double precision."""

from __future__ import annotations

import math

from torch import Tensor

from palimpsest.companions.round_record import Weights
from palimpsest.federated.averaging import weights_after


def difference(after: Weights, before: Weights) -> dict[str, Tensor]:
    """θ₁ − θ₀."""
    return weights_after(after, before, -1.0)


def l2_norm(weights: Weights) -> float:
    """‖θ‖₂ of all tensors together.

    >>> import torch
    >>> l2_norm({"a": torch.tensor([3.0]), "b": torch.tensor([[4.0]])})
    5.0
    """
    return math.sqrt(math.fsum(float(tensor.double().square().sum()) for tensor in weights.values()))


def onto_ball(weights: Weights, centre: Weights, radius: float) -> dict[str, Tensor]:
    """The nearest weights within a distance of a centre.

        P(w) = c + (w − c) min(1, r / ‖w − c‖)

    >>> import torch
    >>> onto_ball({"w": torch.tensor([4.0, 5.0])}, {"w": torch.tensor([1.0, 1.0])}, 2.5)["w"].tolist()
    [2.5, 3.0]
    """
    away = difference(weights, centre)
    length = l2_norm(away)
    return dict(weights) if length <= radius else weights_after(centre, away, radius / length)
