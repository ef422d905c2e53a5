"""Herding: of many rows the few whose mean stays nearest to the mean of all, the best first.

    p_k = argmin_i ‖ mu − ( f_i + Σ_{j<k} f_{p_j} ) / k ‖,   mu = Σ_i f_i / N,   no row twice

Source: Welling 2009, "Herding Dynamical Weights to Learn", as iCaRL uses it (Rebuffi et al. 2017, arXiv:1611.07725,
its algorithm 4); known from notes on the paper. The first k rows are the choice of k: a memory is cut from behind.

Shape legend: N rows, D features.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def herded(features_ND: Float[Tensor, "N D"], count: int) -> list[int]:
    """So many rows, or all there are, in the order in which they are chosen; of equally near ones the first.

    Args:
        features_ND: of one class.
        count: at most.

    >>> herded(torch.tensor([[0.0], [1.0], [5.0], [6.0]]), 3)
    [1, 2, 0]
    """
    wide_ND = features_ND.double()
    mean_D, sum_D = wide_ND.mean(0), torch.zeros_like(wide_ND[0]) if len(wide_ND) else wide_ND.new_zeros(0)
    free_N = torch.ones(len(wide_ND), dtype=torch.bool)
    chosen: list[int] = []
    while len(chosen) < min(count, len(wide_ND)):
        away_N = (mean_D - (wide_ND + sum_D) / (len(chosen) + 1)).norm(dim=1)
        best = int(away_N.masked_fill(~free_N, torch.inf).argmin())
        chosen.append(best)
        sum_D, free_N[best] = sum_D + wide_ND[best], False
    return chosen
