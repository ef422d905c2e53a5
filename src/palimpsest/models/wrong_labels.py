"""Wrong labels: what several methods teach in the place of what must go."""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor

from palimpsest.errors import RunError


def wrong_labels(target_S: Int[Tensor, "S"], num_labels: int) -> Int[Tensor, "S"]:
    """Labels uniform over 0 .. num_labels − 1 but for the right one, from torch's CPU generator.

    Raises:
        RunError: there is no wrong one.

    >>> wrong_labels(torch.tensor([0, 1, 1]), 2).tolist()
    [1, 0, 0]
    """
    if num_labels < 2:
        raise RunError("the model has one class, and there is no wrong one to teach; accepted: a head of two or more")
    # Drawn on the CPU one by one: the same labels however a step is cut into micro-batches, on any device.
    offset_S = torch.randint(1, num_labels, target_S.shape).to(target_S.device)
    return (target_S + offset_S) % num_labels
