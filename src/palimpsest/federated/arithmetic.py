"""Lengths and differences of weights by name, in double precision."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from palimpsest.companions.round_record import Weights
from palimpsest.federated.averaging import weights_after

AGREES = 0.1
"""Least cosine of two changes that count as pointing the same way: three honest people's adapters had 0.15 to 0.29 in
the first two rounds, and −0.04 to 0.06 from the tenth on (docs/federated_flower.md)."""


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


def mutual_cosines(changes: Mapping[str, Weights]) -> Float[Tensor, "K K"]:
    """c_jk = ⟨u_j, u_k⟩ / ‖u_j‖ ‖u_k‖ of all pairs, in the order of the mapping, in fp64; 0 beside one that is 0.

    Args:
        changes: client -> its change; at least one, all of the same names and shapes.
    """
    own = list(changes.values())
    gram_KK = torch.zeros(len(own), len(own), dtype=torch.float64)
    for name in own[0]:
        rows_KN = torch.stack([one[name].double().flatten() for one in own])
        gram_KK += rows_KN @ rows_KN.T
    length_K = gram_KK.diagonal().sqrt()
    return gram_KK / (length_K[:, None] * length_K).clamp_min(torch.finfo(torch.float64).tiny)


def turned(changes: Mapping[str, Weights]) -> tuple[str, ...]:
    """The client whose change points against that of every other, where all these agree; of three or more.

        c_kj < −T for all j ≠ k,  and  c_ij > T for all i ≠ j, both other than k;  T = ``AGREES``

    One that sends its change with the other sign is such a client as long as the honest agree: in the first rounds.
    Later their changes point nowhere in common, and nobody can tell.

    Args:
        changes: client -> its change, all of the same names and shapes.

    >>> u = {"a": {"w": torch.tensor([1.0, 0.0])}, "b": {"w": torch.tensor([1.0, 0.5])}}
    >>> turned({**u, "c": {"w": torch.tensor([-1.0, -0.2])}}), turned({**u, "c": {"w": torch.tensor([0.0, 1.0])}})
    (('c',), ())
    """
    names = tuple(changes)
    if len(names) < 3:
        return ()
    pairs_KK = mutual_cosines(changes)

    def against(k: int) -> bool:
        others = [number for number in range(len(names)) if number != k]
        agree_JJ = pairs_KK[others][:, others] > AGREES
        return bool((pairs_KK[k, others] < -AGREES).all()) and bool(agree_JJ.all())

    return tuple(name for k, name in enumerate(names) if against(k))
