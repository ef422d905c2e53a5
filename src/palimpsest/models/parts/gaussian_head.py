"""Gaussian head: the class in whose own metric the mean is nearest.

    y_c <- - scale · (f̂ - mû_c)ᵀ R_c⁺ (f̂ - mû_c),   f̂ = f / |f|,  mû_c = mu_c / |mu_c|
    R_c = the correlation matrix of cov_c + shrinkage · v_c · I,  v_c = mean variance of class c

Source: FeCAM, Goswami et al. 2023, arXiv:2309.14062; known from notes on the paper and on PILOT's code. Pseudo-inverse
as there; the shrinkage is a multiple of the mean variance, so that it does not depend on the scale of features.

Shape legend: D width of what enters the head, C classes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor

from palimpsest.models.parts.class_head import ClassHead, ClassHeadConfig


class GaussianHeadConfig(ClassHeadConfig):
    """Options of a Gaussian head."""

    shrinkage: float = Field(default=1.0, gt=0)
    """What is added to the variances of a class, in multiples of their mean."""


def shrunk(covariance_DD: Float[Tensor, "D D"], shrinkage: float) -> Float[Tensor, "D D"]:
    """Cov + shrinkage · v · I, v the mean variance; of a class without any, I.

    >>> shrunk(torch.tensor([[3.0, 1.0], [1.0, 1.0]]), 0.5).tolist()
    [[4.0, 1.0], [1.0, 2.0]]
    """
    mean_variance = covariance_DD.diagonal().mean()
    eye_DD = torch.eye(len(covariance_DD), dtype=covariance_DD.dtype)
    return covariance_DD + shrinkage * mean_variance * eye_DD if mean_variance > 0 else eye_DD


def correlation(covariance_DD: Float[Tensor, "D D"]) -> Float[Tensor, "D D"]:
    """Cov_ij / (s_i s_j).

    >>> correlation(torch.tensor([[4.0, 1.0], [1.0, 1.0]])).tolist()
    [[1.0, 0.5], [0.5, 1.0]]
    """
    deviation_D = covariance_DD.diagonal().sqrt()
    return covariance_DD / deviation_D[:, None] / deviation_D


def distances(
    features: Float[Tensor, "... D"], means_CD: Float[Tensor, "C D"], precision_CDD: Float[Tensor, "C D D"]
) -> Float[Tensor, "... C"]:
    """(f̂ − mû_c)ᵀ P_c (f̂ − mû_c), class by class.

    >>> distances(torch.tensor([0.0, 2.0]), torch.tensor([[3.0, 0.0]]), torch.eye(2)[None]).tolist()
    [2.0]
    """
    unit, unit_CD = F.normalize(features, dim=-1), F.normalize(means_CD, dim=-1)
    found = []
    for mean_D, precision_DD in zip(unit_CD, precision_CDD, strict=True):
        off = unit - mean_D
        found.append(((off @ precision_DD) * off).sum(-1))
    return torch.stack(found, -1)


class GaussianHead(ClassHead):
    """A mean and a metric for each class."""

    Config = GaussianHeadConfig
    kind = "gaussian_head"
    grows = ("present_C", "means_CD", "precision_CDD")

    means_CD: Tensor
    precision_CDD: Tensor

    def __init__(self, config: GaussianHeadConfig) -> None:
        super().__init__(config)
        self.register_buffer("means_CD", torch.zeros(config.classes, config.width))
        self.register_buffer("precision_CDD", torch.zeros(config.classes, config.width, config.width))

    def scores(self, entering: Float[Tensor, "... D"]) -> Float[Tensor, "... C"]:
        """Distances, with the sign turned."""
        return -distances(entering, self.means_CD, self.precision_CDD)

    @torch.no_grad()
    def fit(
        self, means_CD: Float[Tensor, "C D"], covariance_CDD: Float[Tensor, "C D D"], present_C: Bool[Tensor, "C"]
    ) -> None:
        """Have these means and covariances, in double precision; classes that are not there have none."""
        for buffer in (self.means_CD, self.precision_CDD, self.present_C):
            buffer.zero_()
        for label in present_C.nonzero()[:, 0].tolist():
            about_DD = correlation(shrunk(covariance_CDD[label], self.config.shrinkage))
            self.means_CD[label] = means_CD[label].to(self.means_CD)
            self.precision_CDD[label] = torch.linalg.pinv(about_DD, hermitian=True).to(self.precision_CDD)
            self.present_C[label] = True


PART = GaussianHead
