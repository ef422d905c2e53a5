"""Where codes begin: the centres of what a block says, by k-means on the sphere; and where dead ones begin again.

Source: k-means initialisation and replacement of dead codes are usual for codebooks (van den Oord et al. 2017,
arXiv:1711.00937, and what followed); here by the cosine, by which codes are chosen.

Shape legend: N vectors, C width of a code, K codes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

_AT_ONCE = 4096  # vectors whose cosines stand in memory together


def sphere_means(vectors_NC: Float[Tensor, "N C"], count: int, seed: int, rounds: int) -> Float[Tensor, "K C"]:
    """Centres of k-means by the cosine: means of the vectors that are nearest to each.

    Args:
        vectors_NC: N of them.
        count: K; where there are fewer vectors some are taken twice, and moved a little.
        seed: of the vectors that the centres begin at.
        rounds: how often vectors are dealt out and means taken.
    """
    centres_KC = drawn_vectors(vectors_NC, count, seed)
    for _ in range(rounds):
        nearest_N = _nearest(vectors_NC, centres_KC)
        sums_KC = torch.zeros_like(centres_KC).index_add_(0, nearest_N, vectors_NC)
        counts_K = torch.bincount(nearest_N, minlength=count)
        means_KC = sums_KC / counts_K.clamp(min=1)[:, None]
        centres_KC = torch.where(counts_K[:, None] > 0, means_KC, centres_KC)
    return centres_KC


def drawn_vectors(vectors_NC: Float[Tensor, "N C"], count: int, seed: int) -> Float[Tensor, "K C"]:
    """So many of some vectors, drawn by a seed; what is drawn twice is moved by a hundredth of its size.

    >>> drawn_vectors(torch.tensor([[1.0, 2.0]]), 1, 0).tolist()
    [[1.0, 2.0]]
    """
    own = torch.Generator().manual_seed(seed)
    found = [torch.randperm(len(vectors_NC), generator=own) for _ in range(-(-count // len(vectors_NC)))]
    drawn_KC = vectors_NC[torch.cat(found)[:count].to(vectors_NC.device)].clone()
    again_MC = drawn_KC[len(vectors_NC) :]
    noise_MC = torch.randn(again_MC.shape, generator=own).to(again_MC)
    again_MC += 0.01 * noise_MC * again_MC.abs().mean(-1, keepdim=True)
    return drawn_KC


def revived(
    codes_KC: Float[Tensor, "K C"], usage_K: Int[Tensor, "K"], vectors_NC: Float[Tensor, "N C"], share: float, seed: int
) -> tuple[Float[Tensor, "K C"], Bool[Tensor, "K"]]:
    """Codes of which those that nobody chose begin again at some of the latest vectors.

    Args:
        codes_KC: all of them.
        usage_K: how often each was chosen lately.
        vectors_NC: what was to be coded lately.
        share: of a vector that one code stands for.
        seed: of the draw.

    Returns:
        The codes, and which are new.
    """
    dead_K = usage_K == 0
    found_KC = codes_KC.clone()
    if bool(dead_K.any()):
        found_KC[dead_K] = share * drawn_vectors(vectors_NC, int(dead_K.sum()), seed).to(found_KC)
    return found_KC, dead_K


def _nearest(vectors_NC: Tensor, centres_KC: Tensor) -> Int[Tensor, "N"]:
    unit_KC = F.normalize(centres_KC, dim=-1)
    found = [(part @ unit_KC.T).argmax(-1) for part in torch.split(vectors_NC, _AT_ONCE)]
    return torch.cat(found)
