"""Means of what clients answered, which do not depend on the order in which the answers came."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from palimpsest.companions.round_record import Replies, Weights


def mean_of_clients(tensors: Mapping[str, Float[Tensor, "..."]], shares: Mapping[str, float]) -> Float[Tensor, "..."]:
    """Mean of one tensor over clients, by their shares; summed in fp64 in the order of the names, given in fp32.

    Source: McMahan et al. 2017, arXiv:1602.05629, algorithm 1: w = Σ_k n_k / n · w_k.

    Args:
        tensors: client -> its tensor, all of one shape.
        shares: client -> its weight, e.g. its number of rows; positive sum.

    >>> pair = {"b": torch.tensor([4.0]), "a": torch.tensor([1.0])}
    >>> mean_of_clients(pair, {"a": 1, "b": 2})
    tensor([3.])
    """
    names = sorted(tensors)
    total = sum(float(shares[name]) for name in names)
    summed = torch.zeros_like(tensors[names[0]], dtype=torch.float64)
    for name in names:
        summed += tensors[name].double() * (float(shares[name]) / total)
    return summed.float()


def mean_delta(answers: Replies) -> dict[str, Tensor]:
    """Mean of the clients' changes, by their rows; name -> tensor, in the order of the first client's.

    Args:
        answers: at least one.
    """
    shares = {client: told.examples for client, told in answers.items()}
    first = answers[min(answers)]
    return {
        name: mean_of_clients({client: told.delta[name] for client, told in answers.items()}, shares)
        for name in first.delta
    }


def weights_after(weights: Weights, delta: Weights, factor: float = 1.0) -> dict[str, Tensor]:
    """Weights plus so much of a change; summed in fp64, given in fp32.

    >>> weights_after({"w": torch.tensor([1.0])}, {"w": torch.tensor([0.5])}, 2.0)
    {'w': tensor([2.])}
    """
    return {name: (value.double() + factor * delta[name].double()).float() for name, value in weights.items()}


def averaged_by(weights: Weights, answers: Replies) -> dict[str, Tensor]:
    """One step of federated averaging: weights plus the mean change; the same weights where nobody answered."""
    return weights_after(weights, mean_delta(answers)) if answers else dict(weights)
