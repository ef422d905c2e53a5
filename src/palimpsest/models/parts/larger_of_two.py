"""The larger of two: two views of a model answer, and of each class the larger probability counts.

    y_c <- log max_v softmax( z(f_v) )_c,   z_c(f) = scale · cos(f, w_c)

Source: the ensemble of LAE, Gao et al. 2023, arXiv:2303.10070; known from notes on the paper.

Shape legend: ... any leading axes, V views, D width of what enters the head, C classes.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from palimpsest.models.parts.views_head import ViewsHead, ViewsHeadConfig

LEAST = 1e-30


class LargerOfTwo(ViewsHead):
    """A trained row for each class, read in every view."""

    Config = ViewsHeadConfig
    kind = "larger_of_two"

    @classmethod
    def example(cls, at: str, width: int) -> ViewsHeadConfig:
        """Two views; it knows no class yet."""
        return ViewsHeadConfig(at=at, width=width, classes=width, tasks=(1, 2), has_rows=False)

    def answer(self, features: Float[Tensor, "... V D"]) -> Float[Tensor, "... C"]:
        """Log of the larger probability."""
        return self.probabilities(features).amax(dim=-2).clamp_min(LEAST).log()


PART = LargerOfTwo
