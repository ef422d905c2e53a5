"""Class means: the class whose mean feature has the largest cosine with what enters the head.

    y_c <- scale · cos(f, mu_c)

Source: the cosine classifier of SimpleCIL, Zhou et al. 2023, arXiv:2303.07338; known from notes on the paper.

Shape legend: D width of what enters the head, C classes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from palimpsest.models.parts.class_head import ClassHead, ClassHeadConfig


def cosines_to(features: Float[Tensor, "... D"], means_CD: Float[Tensor, "C D"]) -> Float[Tensor, "... C"]:
    """cos(f, mu_c); 0 for a vector of zeros.

    >>> cosines_to(torch.tensor([3.0, 0.0]), torch.tensor([[2.0, 0.0], [0.0, 1.0], [0.0, 0.0]])).tolist()
    [1.0, 0.0, 0.0]
    """
    return F.normalize(features, dim=-1) @ F.normalize(means_CD, dim=-1).T


class ClassMeans(ClassHead):
    """A mean for each class."""

    Config = ClassHeadConfig
    kind = "class_means"
    grows = ("present_C", "means_CD")

    means_CD: Tensor

    def __init__(self, config: ClassHeadConfig) -> None:
        super().__init__(config)
        self.register_buffer("means_CD", torch.zeros(config.classes, config.width))

    def scores(self, entering: Float[Tensor, "... D"]) -> Float[Tensor, "... C"]:
        """Cosines."""
        return cosines_to(entering, self.means_CD)

    @torch.no_grad()
    def fit(self, means_CD: Float[Tensor, "C D"], present_C: Bool[Tensor, "C"]) -> None:
        """Have these means, of the first C classes; others are not there.

        Args:
            means_CD: in any precision.
            present_C: which classes there are.
        """
        self.means_CD.zero_()
        self.present_C.zero_()
        self.means_CD[: len(means_CD)] = torch.where(present_C[:, None], means_CD, 0.0).to(self.means_CD)
        self.present_C[: len(present_C)] = present_C.to(self.present_C.device)


PART = ClassMeans
