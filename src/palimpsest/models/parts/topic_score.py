"""Is a text about what was forgotten? A linear score of the mean of what one module said so far, fitted in closed form.

    m_t = mean of h_i over i <= t           s_t = w · m_t + b           it is, from the first t on where s_t > threshold

w is Fisher's linear discriminant, so that neither rows nor means are kept, only one direction between two of them; 1 is
the mean of what was forgotten, −1 that of all else. The threshold lies above all but a share of rows that must stay.

Source: Fisher 1936, "The use of multiple measurements in taxonomic problems"; guarding a model by a classifier of its
prompts is the baseline of Thaker et al. 2024, "Guardrail Baselines for Unlearning in LLMs", arXiv:2403.03329.

Shape legend: B rows, T tokens, D width, N rows of a class.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

_HELD_OUT = 3  # of so many rows that must stay one sets the threshold, the others the direction
_LEAST_HELD = 12  # rows that must stay; of fewer all do both


class ClassMoments(NamedTuple):
    """Of the points of a class, each row weighing the same: how many rows, their sum, and their second moments."""

    rows: float
    sum_D: Float[Tensor, "D"]
    square_DD: Float[Tensor, "D D"]


def running_mean(
    values_BT: Float[Tensor, "B T"], there_BT: Bool[Tensor, "B T"], sum_B: Tensor, count_B: Tensor
) -> tuple[Float[Tensor, "B T"], Float[Tensor, "B T"], Float[Tensor, "B T"]]:
    """Mean of the values up to each position, after those that came before; their sums and how many they are.

    >>> none = torch.zeros(1)
    >>> running_mean(torch.tensor([[9.0, 2.0, 4.0]]), torch.tensor([[False, True, True]]), none, none)[0]
    tensor([[0., 2., 3.]])
    """
    sums_BT = sum_B[:, None] + (values_BT * there_BT).cumsum(1)
    counts_BT = count_B[:, None] + there_BT.cumsum(1)
    return sums_BT / counts_BT.clamp(min=1), sums_BT, counts_BT


def moments(rows: Sequence[Float[Tensor, "N D"]], width: int) -> ClassMoments:
    """Of the points of some rows; every row weighs the same, however many points it has."""
    sum_D, square_DD = torch.zeros(width, dtype=torch.float64), torch.zeros(width, width, dtype=torch.float64)
    for points in rows:
        exact = points.double()
        sum_D += exact.mean(0)
        square_DD += exact.T @ exact / len(points)
    return ClassMoments(len(rows), sum_D, square_DD)


def discriminant(
    gone: ClassMoments, stays: ClassMoments, *, whiten: bool, ridge: float
) -> tuple[Float[Tensor, "D"], float]:
    """Direction and offset, so that the mean of one class scores 1 and that of the other −1.

    Args:
        gone: what was forgotten.
        stays: all else.
        whiten: by the covariance within the classes; False is the difference of the two means alone.
        ridge: added to the covariance, as a share of its mean diagonal.

    >>> one, other = moments([torch.tensor([[2.0, 0.0]])], 2), moments([torch.tensor([[0.0, 0.0]])], 2)
    >>> discriminant(one, other, whiten=False, ridge=0.1)
    (tensor([1., 0.], dtype=torch.float64), -1.0)
    """
    mean_D, other_D = gone.sum_D / gone.rows, stays.sum_D / stays.rows
    away_D = mean_D - other_D
    if whiten:
        within_DD = (gone.square_DD / gone.rows - mean_D.outer(mean_D)) / 2
        within_DD += (stays.square_DD / stays.rows - other_D.outer(other_D)) / 2
        load = ridge * float(within_DD.diagonal().mean()) + torch.finfo(torch.float64).tiny
        away_D = torch.linalg.solve(within_DD + load * torch.eye(len(away_D), dtype=torch.float64), away_D)
    top, low = float(away_D @ mean_D), float(away_D @ other_D)
    if not top > low:
        return torch.zeros_like(away_D), 0.0
    return 2 * away_D / (top - low), -(top + low) / (top - low)


def threshold_over(peaks: Sequence[float], share: float) -> float:
    """The least number that at most a share of some peaks is above.

    Args:
        peaks: highest score of each row that must stay.
        share: of them that may be refused.

    >>> threshold_over([0.1, 0.4, 0.2, 0.3], 0.25), threshold_over([0.1, 0.4], 0.0)
    (0.3, 0.4)
    """
    above = math.floor(share * len(peaks) + 1e-9)
    return sorted(peaks, reverse=True)[min(above, len(peaks) - 1)]


def held_out(ids: Sequence[str]) -> tuple[list[str], list[str]]:
    """Rows that the direction is fitted on, and those that set the threshold; by id, whatever their order."""
    if len(ids) < _LEAST_HELD:
        return list(ids), list(ids)
    kept = {i for i in ids if int(hashlib.sha256(i.encode()).hexdigest()[:8], 16) % _HELD_OUT == 0}
    fitted = [i for i in ids if i not in kept]
    return fitted or list(ids), [i for i in ids if i in kept] or list(ids)
