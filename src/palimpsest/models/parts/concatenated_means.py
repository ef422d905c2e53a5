"""Concatenated means: the class whose mean features, over several views of the model, are nearest by cosine.

    joined     y_c <- scale · cos( [f_1 … f_V], [p_c1 … p_cV] )                                      APER
    weighted   y_c <- scale · ( cos(f_s, p_cs) + alpha / (V − 1) · Σ_{v ≠ s} cos(f_v, p_cv) )        EASE; s = own task

p_cv is the mean of class c in view v. A class has none in the views of tasks after its own: there it is put together
of the classes that the view is of, by how alike they are to it where both have one (``synthesised``).

Sources: Zhou et al. 2023, arXiv:2303.07338 (APER) and Zhou et al. 2024, arXiv:2403.12030 (EASE); known from notes.

Shape legend: ... any leading axes, V views, D width of what enters the head, C classes.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor

from palimpsest.models.parts.class_means import cosines_to
from palimpsest.models.parts.views_head import ViewsHead, ViewsHeadConfig


class ConcatenatedMeansConfig(ViewsHeadConfig):
    """Options of concatenated means."""

    join: Literal["joined", "weighted"] = "joined"
    """One cosine of all views together, or a sum of one for each."""
    other_weight: float = Field(default=0.1, ge=0)
    """alpha of EASE: what the other views count for beside a class's own."""


def view_weights(own_C: Int[Tensor, "C"], tasks: tuple[int, ...], other_weight: float) -> Float[Tensor, "C V"]:
    """1 at a class's own view, alpha / (V − 1) at the others.

    >>> view_weights(torch.tensor([1, 2]), (1, 2), 0.1).tolist()
    [[1.0, 0.10000000149011612], [0.10000000149011612, 1.0]]
    """
    is_own_CV = own_C[:, None] == torch.tensor(tasks, device=own_C.device)
    return torch.where(is_own_CV, 1.0, other_weight / max(1, len(tasks) - 1))


def synthesised(
    means_CVD: Float[Tensor, "C V D"],
    present_C: Bool[Tensor, "C"],
    own_C: Int[Tensor, "C"],
    tasks: tuple[int, ...],
) -> Float[Tensor, "C V D"]:
    """Means in all views: what a class has not seen is a mixture of the classes of the view's task.

    p_cv = Σ_n softmax_n( cos(p_cs, p_ns) ) · p_nv    n the classes of task v, s the own view of c, v after s

    Args:
        means_CVD: real ones up to a class's own view; whatever stands behind it is not looked at.
        present_C: which classes there are.
        own_C: task of each.
        tasks: of the views, ascending.

    Returns:
        The same with the other ones filled in; zeros where the view's task has no class any more.
    """
    found = torch.where(present_C[:, None, None], means_CVD, 0.0)
    for place, task in enumerate(tasks):
        later = present_C & (own_C < task)
        of_task = present_C & (own_C == task)
        found[later, place] = 0.0
        for own in sorted({int(t) for t in own_C[later]} & set(tasks)) if bool(of_task.any()) else ():
            old, shared = later & (own_C == own), tasks.index(own)
            alike_ON = cosines_to(means_CVD[old, shared], means_CVD[of_task, shared]).softmax(dim=-1)
            found[old, place] = alike_ON @ means_CVD[of_task, place]
    return found


class ConcatenatedMeans(ViewsHead):
    """A mean for each class and view; the rows are there while a task is taught, and never after."""

    Config = ConcatenatedMeansConfig
    kind = "concatenated_means"
    grows = ("present_C", "own_C", "means_CVD")

    means_CVD: Tensor

    def __init__(self, config: ConcatenatedMeansConfig) -> None:
        super().__init__(config)
        self.register_buffer("means_CVD", torch.zeros(config.classes, len(config.tasks), config.width))

    @classmethod
    def example(cls, at: str, width: int) -> ConcatenatedMeansConfig:
        """Two views, and as many classes as numbers enter."""
        return cls.Config(at=at, width=width, classes=width, tasks=(0, 1), has_rows=False)

    def answer(self, features: Float[Tensor, "... V D"]) -> Float[Tensor, "... C"]:
        """Cosines of all views, joined or weighted."""
        if self.config.join == "joined":
            joined: Tensor = self.config.scale * cosines_to(features.flatten(-2), self.means_CVD.flatten(1))
            return joined
        weight_CV = view_weights(self.own_C, self.config.tasks, self.config.other_weight)
        unit, unit_CVD = F.normalize(features, dim=-1), F.normalize(self.means_CVD, dim=-1)
        said: Tensor = self.config.scale * torch.einsum("...vd,cvd,cv->...c", unit, unit_CVD, weight_CV)
        return said

    @torch.no_grad()
    def fit(self, means_CD: Float[Tensor, "C M"], present_C: Bool[Tensor, "C"]) -> None:
        """Have these means, of the first C classes; others are not there.

        Args:
            means_CD: M = V·D numbers of each, zeros in the views after its own.
            present_C: which classes there are.
        """
        count, own_C = len(present_C), self.own_C[: len(present_C)]
        self.means_CVD.zero_()
        self.present_C.zero_()
        self.own_C[count:] = 0
        self.own_C[:count][~present_C] = 0
        means_CVD = means_CD.reshape(count, len(self.config.tasks), self.config.width)
        whole = synthesised(means_CVD, present_C.cpu(), own_C.cpu(), self.config.tasks) if len(present_C) else means_CVD
        self.means_CVD[:count] = whole.to(self.means_CVD)
        self.present_C[:count] = present_C.to(self.present_C.device)


PART = ConcatenatedMeans
