"""Optimal transport with an entropy: how much of each source goes to each target, at little cost.

Source: Cuturi 2013, "Sinkhorn Distances", arXiv:1306.0895, the iteration on the two scalings.

    P = argmin Σ_mn P_mn C_mn + reg · Σ_mn P_mn (log P_mn − 1),   P 1 = a,  Pᵀ 1 = b
    P_mn = exp((f_m + g_n − C_mn) / reg),  f and g in turn so that the rows sum to a, then the columns to b

In logarithms and double precision, because exp(−C / reg) is nothing but zeros where reg is small beside the costs.

Shape legend: M sources, N targets, D width.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

_MOST_ROUNDS = 1000
_TOLERANCE = 1e-9  # of a marginal that sums to 1


def sinkhorn(
    cost_MN: Float[Tensor, "M N"],
    reg: float,
    *,
    source_M: Float[Tensor, "M"] | None = None,
    target_N: Float[Tensor, "N"] | None = None,
    rounds: int = _MOST_ROUNDS,
) -> Float[Tensor, "M N"]:
    """The transport plan between two distributions; its rows sum to the sources, its columns exactly to the targets.

    Args:
        cost_MN: C, what it costs to take a unit from a source to a target; any sign.
        reg: weight of the entropy, in the unit of the costs, > 0. Small: as cheap as can be; large: a b^T.
        source_M: a, > 0, sums to 1; None = all alike.
        target_N: b, likewise.
        rounds: at most so many at each weight of the entropy; it ends before, within 1e-9 of the sums of the rows.

    Returns:
        P in double precision, on the device of the costs.

    >>> near = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    >>> sinkhorn(near, reg=0.01).round(decimals=3).tolist()
    [[0.5, 0.0], [0.0, 0.5]]
    >>> sinkhorn(near, reg=1e6).round(decimals=3).tolist()
    [[0.25, 0.25], [0.25, 0.25]]
    """
    cost_MN = cost_MN.detach().double()
    log_a_M = _log_shares(source_M, cost_MN.shape[0], cost_MN)
    log_b_N = _log_shares(target_N, cost_MN.shape[1], cost_MN)
    price_N = torch.zeros_like(log_b_N)
    for each in _falling(float(cost_MN.max() - cost_MN.min()), reg):
        plan_MN, price_N = _balanced(cost_MN, each, (log_a_M, log_b_N), price_N, rounds)
    return plan_MN


def _falling(most: float, reg: float) -> list[float]:
    """Weights of the entropy, halved down to ``reg``: what is found at one starts the next, else small ones take long.

    >>> _falling(1.0, 0.3)
    [1.0, 0.5, 0.3]
    """
    found = []
    while most > reg:
        found.append(most)
        most /= 2
    return [*found, reg]


def _balanced(
    cost_MN: Tensor, reg: float, shares: tuple[Tensor, Tensor], price_N: Tensor, rounds: int
) -> tuple[Float[Tensor, "M N"], Float[Tensor, "N"]]:
    """The plan at one weight of the entropy, and what the targets pay for it, from what they paid before."""
    log_a_M, log_b_N = shares
    score_MN, g_N = -cost_MN / reg, price_N / reg
    for _ in range(rounds):
        f_M = log_a_M - (score_MN + g_N).logsumexp(dim=1)
        g_N = log_b_N - (score_MN + f_M[:, None]).logsumexp(dim=0)
        plan_MN = (score_MN + f_M[:, None] + g_N).exp()
        if (plan_MN.sum(dim=1) - log_a_M.exp()).abs().max() < _TOLERANCE:
            break
    return plan_MN, g_N * reg


def _log_shares(shares: Tensor | None, count: int, like: Tensor) -> Float[Tensor, "M"]:
    """Logarithms of a distribution that sums to 1."""
    given = torch.ones(count) if shares is None else shares
    wide = given.to(like.device, torch.float64)
    return (wide / wide.sum()).log()


def transported(plan_MN: Float[Tensor, "M N"], rows_MD: Float[Tensor, "M D"]) -> Float[Tensor, "N D"]:
    """For each target the mean of the sources' rows, weighted by how much of it came from each.

    Args:
        plan_MN: P.
        rows_MD: e.g. the weights of the sources' classes.

    Returns:
        diag(1 / column sums) Pᵀ rows, in the dtype of the rows.

    >>> transported(torch.tensor([[0.5, 0.1], [0.0, 0.4]]), torch.tensor([[1.0], [6.0]])).tolist()
    [[1.0], [5.0]]
    """
    share_NM = (plan_MN / plan_MN.sum(dim=0)).T
    return (share_NM @ rows_MD.to(share_NM)).to(rows_MD.dtype)
