"""The loss of a task over the classes of that task alone: the logits of all others are left out of the softmax.

A row of the head that belongs to another task then has no gradient at all, and stays as it is. A task of one class
alone would have nothing to learn: it is held against what is said for all others, which have no gradient either.

Shape legend: S scored positions, V classes.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from palimpsest.data.encode.any_set import labels_of


def task_loss(
    logits_SV: Float[Tensor, "S V"], target_S: Int[Tensor, "S"], current_V: Bool[Tensor, "V"] | None
) -> Float[Tensor, ""]:
    """−Σ_s log p(target), p the softmax over the current classes, nats.

    Args:
        logits_SV: of the model.
        target_S: classes, all of them current ones.
        current_V: which classes are of the task; None = all.

    >>> task_loss(torch.tensor([[1.0, 1.0, 50.0]]), torch.tensor([0]), torch.tensor([True, True, False])).item()
    0.6931471824645996
    """
    if current_V is None:
        return F.cross_entropy(logits_SV.float(), target_S, reduction="sum")
    others_V = ~current_V.to(logits_SV.device)
    alone = bool(current_V.sum() == 1)
    shown_SV = torch.where(others_V, logits_SV.detach() if alone else -torch.inf, logits_SV)
    return F.cross_entropy(shown_SV.float(), target_S, reduction="sum")


def current_classes_of(examples: Any, outputs: int) -> Bool[Tensor, "V"] | None:
    """Which classes occur in a set; None of a set without classes.

    Args:
        examples: of images or of texts.
        outputs: classes of the head.
    """
    label_N = labels_of(examples)
    if not len(label_N):
        return None
    return torch.zeros(outputs, dtype=torch.bool).index_fill_(0, torch.unique(label_N), True)
