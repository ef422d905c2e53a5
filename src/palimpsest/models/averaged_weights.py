"""Weights between those before a run and those after it: by what each depends on them, and by a share.

Source: Marouf et al. 2023, "Weighted Ensemble Models Are Strong Continual Learners" (CoFiMA), arXiv:2312.08977, its
Fisher-weighted average; Zhou et al. 2024, "Dual Consolidation for Pre-Trained Model-Based Domain-Incremental
Learning" (DUCT), arXiv:2410.00911, its merged task vectors. Both as a summary of LAMDA-PILOT has them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from palimpsest.models.scope import trainable


def fisher_average(
    before: Float[Tensor, "*S"],
    after: Float[Tensor, "*S"],
    fishers: tuple[Float[Tensor, "*S"], Float[Tensor, "*S"]],
    alpha: float,
) -> Float[Tensor, "*S"]:
    """((1 − α) F₀ θ₀ + α F₁ θ₁) / ((1 − α) F₀ + α F₁), number by number.

    Where neither model depends on a number it is (1 − α) θ₀ + α θ₁. Equal numbers stay, to the bit, and α = 0 and 1
    give the one and the other model.

    Args:
        before: θ₀.
        after: θ₁.
        fishers: F₀ and F₁, each >= 0.
        alpha: 0 to 1.

    >>> one, two = torch.tensor([0.0, 0.0]), torch.tensor([4.0, 4.0])
    >>> fisher_average(one, two, (torch.tensor([3.0, 0.0]), torch.tensor([1.0, 0.0])), alpha=0.5).tolist()
    [1.0, 2.0]
    """
    weight_0, weight_1 = (1 - alpha) * fishers[0], alpha * fishers[1]
    total = weight_0 + weight_1
    share = torch.where(total > 0, weight_1 / total.clamp_min(torch.finfo(total.dtype).tiny), alpha)
    return torch.lerp(before, after, share.to(before))


def part_of_the_way(before: Float[Tensor, "*S"], after: Float[Tensor, "*S"], share: float) -> Float[Tensor, "*S"]:
    """θ₀ + share (θ₁ − θ₀): a task vector that counts by a share.

    >>> part_of_the_way(torch.tensor([1.0]), torch.tensor([5.0]), 0.25).tolist()
    [2.0]
    """
    return torch.lerp(before, after, share)


def moving_tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """What a step may change, by name: weights that may move, and running statistics."""
    yield from trainable(model).items()
    kept = model.state_dict().keys()
    for name, buffer in model.named_buffers():
        if name in kept and buffer.is_floating_point():
            yield name, buffer


def copies_of(model: nn.Module) -> Mapping[str, Tensor]:
    """What a step may change, as it is now."""
    return {name: tensor.detach().clone() for name, tensor in moving_tensors(model)}
