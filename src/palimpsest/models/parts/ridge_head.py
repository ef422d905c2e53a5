"""Ridge head: linear regression on the classes from random features of what enters the head.

    y <- scale · relu(f W) V,   V = (G + lambda I)⁻¹ Q,   G = Σ h hᵀ,  Q = Σ h onehot(y)ᵀ,  h = relu(f W)

Source: RanPAC, McDonnell et al. 2023, arXiv:2307.02251; known from notes on the paper and on PILOT's code. W is random
and fixed. lambda is the one of 10⁻⁸ … 10⁸ that predicts held-out rows best; their error follows from their own G and Q,

    Σ_held |V_fitᵀ h − onehot(y)|² = tr(V_fitᵀ G_held V_fit) − 2 tr(V_fitᵀ Q_held) + n_held

so that no row is needed to choose it anew after a deletion.

Shape legend: D width of what enters the head, M random features, C classes, L penalties.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor

from palimpsest.models.parts.class_head import ClassHead, ClassHeadConfig

PENALTIES = tuple(10.0**power for power in range(-8, 9))


class RidgeHeadConfig(ClassHeadConfig):
    """Options of a ridge head."""

    features: int = Field(default=64, ge=1)
    """M, random features."""
    seed: int = 0
    """Of W."""


def random_features(entering: Float[Tensor, "... D"], random_DM: Float[Tensor, "D M"]) -> Float[Tensor, "... M"]:
    """Relu(f W).

    >>> random_features(torch.tensor([1.0, 2.0]), torch.tensor([[1.0, 1.0], [1.0, -1.0]])).tolist()
    [3.0, 0.0]
    """
    return (entering @ random_DM).relu()


def solved(moment_MM: Float[Tensor, "M M"], sums_MC: Float[Tensor, "M C"], penalty: float) -> Float[Tensor, "M C"]:
    """V = (G + lambda I)⁻¹ Q, by the eigenvectors of G: G of fewer rows than features has no inverse of its own.

    >>> solved(torch.eye(2), torch.tensor([[2.0], [4.0]]), 1.0).tolist()
    [[1.0], [2.0]]
    """
    values_M, vectors_MM = torch.linalg.eigh(moment_MM)
    solution_MC: Tensor = vectors_MM @ ((vectors_MM.T @ sums_MC) / (values_M.clamp_min(0) + penalty)[:, None])
    return solution_MC


def held_out_errors(
    fit: tuple[Tensor, Tensor], held: tuple[Tensor, Tensor, float], penalties: Sequence[float]
) -> Float[Tensor, "L"]:
    """Summed squared error on held-out rows under each penalty, of what was solved on the others.

    Args:
        fit: G (M, M) and Q (M, C) of the rows that it is solved on.
        held: G, Q and the number of the held-out rows.
        penalties: L of them.

    >>> one, none = torch.ones(1, 1), torch.zeros(1, 1)
    >>> held_out_errors((one, one), (one, one, 1.0), [0.0, 1.0]).tolist()
    [0.0, 0.25]
    """
    values_M, vectors_MM = torch.linalg.eigh(fit[0])
    turned_MC = vectors_MM.T @ fit[1]
    held_MM, held_MC = vectors_MM.T @ held[0] @ vectors_MM, vectors_MM.T @ held[1]
    found = []
    for penalty in penalties:
        solution_MC = turned_MC / (values_M.clamp_min(0) + penalty)[:, None]
        found.append((solution_MC * (held_MM @ solution_MC - 2 * held_MC)).sum() + held[2])
    return torch.stack(found)


class RidgeHead(ClassHead):
    """Random features, and what is solved from them."""

    Config = RidgeHeadConfig
    kind = "ridge_head"
    grows = ("present_C", "solution_CM")

    random_DM: Tensor
    solution_CM: Tensor

    def __init__(self, config: RidgeHeadConfig) -> None:
        super().__init__(config)
        self.register_buffer("random_DM", torch.zeros(config.width, config.features))
        self.register_buffer("solution_CM", torch.zeros(config.classes, config.features))

    def draw(self) -> None:
        """W anew, standard normal, by the seed of the options."""
        generator = torch.Generator().manual_seed(self.config.seed)
        drawn_DM = torch.randn(self.config.width, self.config.features, generator=generator)
        self.random_DM.copy_(drawn_DM)

    def making(self, entering: Float[Tensor, "... D"]) -> Float[Tensor, "... M"]:
        """The features that are counted."""
        return random_features(entering, self.random_DM)

    def scores(self, entering: Float[Tensor, "... D"]) -> Float[Tensor, "... C"]:
        """About 1 for the class it is of, and 0 for the others."""
        return self.making(entering) @ self.solution_CM.T

    @torch.no_grad()
    def fit(self, solution_MC: Float[Tensor, "M C"], present_C: Bool[Tensor, "C"]) -> None:
        """Have this solution; classes beyond its own are not there."""
        self.solution_CM.zero_()
        self.present_C.zero_()
        self.solution_CM[: solution_MC.shape[1]] = solution_MC.T.to(self.solution_CM)
        self.present_C[: len(present_C)] = present_C.to(self.present_C.device)


PART = RidgeHead
