"""Lengths and differences of weights by name, in double precision."""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import Tensor

from palimpsest.companions.round_record import Weights
from palimpsest.federated.averaging import moved_by


def difference(after: Weights, before: Weights) -> dict[str, Tensor]:
    """θ₁ − θ₀."""
    return moved_by(after, before, -1.0)


def l2_norm(weights: Weights) -> float:
    """‖θ‖₂ of all tensors together.

    >>> import torch
    >>> l2_norm({"a": torch.tensor([3.0]), "b": torch.tensor([[4.0]])})
    5.0
    """
    return math.sqrt(math.fsum(float(tensor.double().square().sum()) for tensor in weights.values()))


def scaled(weights: Weights, factor: float) -> dict[str, Tensor]:
    """S θ.

    >>> import torch
    >>> scaled({"w": torch.tensor([1.0, -2.0])}, 0.5)["w"].tolist()
    [0.5, -1.0]
    """
    return {name: (factor * tensor.double()).to(tensor.dtype) for name, tensor in weights.items()}


def shares(examples: Mapping[str, int]) -> dict[str, float]:
    """Part that each client has of all examples, in the order of the names.

    >>> shares({"b": 3, "a": 1})
    {'a': 0.25, 'b': 0.75}
    """
    total = sum(examples.values())
    return {name: examples[name] / total for name in sorted(examples)}
