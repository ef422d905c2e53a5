"""Classes as normal distributions of what enters a head: estimated, drawn from, and classified with evened logits.

Source: Zhang et al. 2023, "SLCA: Slow Learner with Classifier Alignment", arXiv:2303.05118, its classifier
alignment; the numbers are those of a summary of LAMDA-PILOT.

    f ~ N(s_c mu_c, cov_c + ridge I),   s_c = 1 − shrink + shrink · (t_c + 1) / T,   t_c = 0 .. T−1 the task of class c
    z' = z / (temperature · mean over tasks t of ‖z_t‖),   z_t the logits of the classes of task t

Shape legend: N rows, C classes, D width of what enters the head, K draws.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

_TINY = 1e-7  # of a norm


class ClassGaussian(NamedTuple):
    """One class.

    Attributes:
        mean_D: in double precision.
        covariance_DD: likewise; 0 of a class of one row.
        task: 0 of the first that was learned.
    """

    mean_D: Float[Tensor, "D"]
    covariance_DD: Float[Tensor, "D D"]
    task: int


Gaussians = Mapping[int, ClassGaussian]
"""Row of the head -> its class."""


def estimated(features_ND: Float[Tensor, "N D"], label_N: Int[Tensor, "N"], task: int) -> dict[int, ClassGaussian]:
    """Mean and covariance (over n − 1) of each class that there is a row of.

    >>> found = estimated(torch.tensor([[0.0], [2.0], [5.0]]), torch.tensor([3, 3, 1]), task=0)
    >>> {label: (one.mean_D.item(), one.covariance_DD.item()) for label, one in found.items()}
    {1: (5.0, 0.0), 3: (1.0, 2.0)}
    """
    return {label: _one(features_ND[label_N == label], task) for label in torch.unique(label_N).tolist()}


def _one(features_ND: Tensor, task: int) -> ClassGaussian:
    wide_ND = features_ND.detach().double().cpu()
    mean_D = wide_ND.mean(dim=0)
    about_ND = wide_ND - mean_D
    return ClassGaussian(mean_D, about_ND.T @ about_ND / max(1, len(wide_ND) - 1), task)


def root_of(covariance_DD: Float[Tensor, "D D"], ridge: float) -> Float[Tensor, "D D"]:
    """A with A Aᵀ = cov + ridge I; also of a matrix without full rank.

    >>> root_of(torch.tensor([[3.0, 0.0], [0.0, 0.0]]), ridge=1.0).tolist()
    [[2.0, 0.0], [0.0, 1.0]]
    """
    wide_DD = covariance_DD + ridge * torch.eye(len(covariance_DD), dtype=covariance_DD.dtype)
    root_DD: Tensor
    root_DD, failed = torch.linalg.cholesky_ex(wide_DD)
    if failed:
        values_D, vectors_DD = torch.linalg.eigh(wide_DD)
        root_DD = vectors_DD * values_D.clamp_min(0).sqrt()
    return root_DD


class GaussianDraws:
    """Features drawn from classes.

    Attributes:
        classes: rows of the head, C of them, in order.
        task_C: of each.
    """

    def __init__(self, gaussians: Gaussians, *, ridge: float, shrink: float, like: Tensor) -> None:
        """The classes to draw from.

        Args:
            gaussians: one or more.
            ridge: added to the diagonal of every covariance, >= 0.
            shrink: by which share the means of the very first task are drawn towards 0; earlier ones more.
            like: whose dtype and device the features get.
        """
        self.classes = tuple(sorted(gaussians))
        found = [gaussians[label] for label in self.classes]
        self.task_C = tuple(one.task for one in found)
        last = max(self.task_C) + 1
        means = [one.mean_D * (1 - shrink + shrink * (one.task + 1) / last) for one in found]
        self._mean_CD = torch.stack(means).to(like)
        self._root_CDD = torch.stack([root_of(one.covariance_DD, ridge) for one in found]).to(like)

    @property
    def width(self) -> int:
        """D."""
        return self._mean_CD.shape[1]

    def __call__(self, which_K: Int[Tensor, "K"], noise_KD: Float[Tensor, "K D"]) -> Float[Tensor, "K D"]:
        """Features of classes by their place among ``classes``, from standard normal noise."""
        which_K, noise_KD = which_K.to(self._mean_CD.device), noise_KD.to(self._mean_CD)
        drawn_KD = self._mean_CD[which_K]
        for place in torch.unique(
            which_K
        ).tolist():  # one class at a time: a root for every draw would be K D D numbers
            rows_K = which_K == place
            drawn_KD[rows_K] += noise_KD[rows_K] @ self._root_CDD[place].T
        return drawn_KD


def evened_logits(logits_KC: Float[Tensor, "K C"], task_C: tuple[int, ...], temperature: float) -> Float[Tensor, "K C"]:
    """Logits over the mean of the norms that each task's have, over the temperature.

    Args:
        logits_KC: of the classes that there are Gaussians of.
        task_C: of each class.
        temperature: > 0; below 1 it sharpens.

    >>> evened_logits(torch.tensor([[3.0, 4.0, 15.0]]), (0, 0, 1), 0.1).tolist()
    [[3.0, 4.0, 15.0]]
    """
    tasks_C = torch.tensor(task_C, device=logits_KC.device)
    norms = [logits_KC[:, tasks_C == task].norm(dim=1) + _TINY for task in sorted(set(task_C))]
    return logits_KC / (torch.stack(norms).mean(dim=0)[:, None] * temperature)
