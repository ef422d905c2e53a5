"""Weights drowned in noise: what a version is before it learns again from the one that forgot.

Source: UNDO, "Distillation Robustifies Unlearning", arXiv:2506.06278 (NeurIPS 2025), known to us from our notes.

    θ ← (1 − alpha) θ + alpha · beta · N      N Xavier-uniform for matrices, 0 for vectors

alpha = 0 leaves every bit; alpha = 1 leaves nothing of what was there.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from palimpsest.data.draws import random_words
from palimpsest.models.scope import trainable


def xavier(name: str, weight: Float[Tensor, "..."], seed: int) -> Float[Tensor, "..."]:
    """N of one tensor, by (seed, name) alone; on the CPU, so that every device has the same.

    >>> xavier("norm", torch.ones(3), 0).tolist()
    [0.0, 0.0, 0.0]
    """
    drawn = torch.zeros(weight.shape)
    if weight.ndim > 1:
        generator = torch.Generator().manual_seed(random_words(seed, f"noised/{name}", 0, 1)[0] >> 1)
        nn.init.xavier_uniform_(drawn, generator=generator)
    return drawn


@torch.no_grad()
def drown(model: nn.Module, *, alpha: float, beta: float, seed: int) -> None:
    """Noise into every parameter that may move, in place.

    Args:
        model: of any kind.
        alpha: share of the noise, 0 to 1.
        beta: its size; 1 is that of fresh weights.
        seed: draws it.
    """
    if not alpha:
        return
    for name, weight in trainable(model).items():
        noise = xavier(name, weight, seed).to(weight.device, weight.dtype)
        weight.mul_(1 - alpha).add_(noise, alpha=alpha * beta)


def usual_rate(model: nn.Module) -> float:
    """A twentieth of the root mean square of the median matrix: a step of AdamW moves a weight by about that.

    What was drowned is far from where it must go: on the stories model at alpha 0.6 a hundredth left a retain ES of
    0.10 of 0.95 after 520 steps, and this one 0.95 of 0.96 after fewer than a thousand.
    """
    sizes = [float(p.detach().float().square().mean().sqrt()) for p in trainable(model).values() if p.ndim > 1]
    return 0.05 * (sorted(sizes)[len(sizes) // 2] if sizes else 0.01)
