"""Linear maps of several layers fused into one, from the second moments of their inputs alone.

Source: Chen & Yang 2023, "Unlearn What You Want to Forget: Efficient Unlearning for LLMs", EMNLP, section on fusing
unlearning layers; the closed form is RegMean (Jin et al. 2023, arXiv:2212.09849).

    W = argmin Σ_i ‖X_i W − X_i W_i‖² + r ‖W‖² = (Σ_i X_iᵀX_i + r I)⁻¹ Σ_i X_iᵀX_i W_i

Shape legend: N inputs, I width in, O width out, K rank.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor


def gram(inputs_NI: Float[Tensor, "N I"]) -> Float[Tensor, "I I"]:
    """XᵀX of inputs, in double precision: it is summed over thousands of positions.

    >>> gram(torch.tensor([[1.0, 2.0], [0.0, 1.0]])).tolist()
    [[1.0, 2.0], [2.0, 5.0]]
    """
    wide_NI = inputs_NI.detach().double()
    return wide_NI.T @ wide_NI


def fused(
    grams: Sequence[Float[Tensor, "I I"]], maps: Sequence[Float[Tensor, "I O"]], ridge: float
) -> Float[Tensor, "I O"]:
    """The one linear map that does on the inputs of each request what that request's own map did.

    Args:
        grams: XᵀX of each request's inputs.
        maps: W of each request, applied as ``x @ W``.
        ridge: r as a share of the mean diagonal of the summed Gram matrix, > 0; inputs that no request had go to 0.

    Returns:
        W in the dtype of the maps, solved in double precision.

    >>> one = fused([torch.eye(1), torch.eye(1)], [torch.tensor([[1.0]]), torch.tensor([[3.0]])], ridge=1e-9)
    >>> round(one.item(), 6)
    2.0
    """
    total_II = torch.stack([each.double() for each in grams]).sum(0)
    wanted_IO = torch.stack([g.double() @ w.double() for g, w in zip(grams, maps, strict=True)]).sum(0)
    size = total_II.diagonal().mean().clamp_min(torch.finfo(torch.float64).tiny)
    within_II = total_II + ridge * size * torch.eye(len(total_II), dtype=torch.float64, device=total_II.device)
    solved_IO: Tensor = torch.linalg.solve(within_II, wanted_IO)
    return solved_IO.to(maps[0].dtype)


def factored(map_IO: Float[Tensor, "I O"], rank: int) -> tuple[Float[Tensor, "I K"], Float[Tensor, "K O"]]:
    """The nearest product of two thin maps, by SVD; each gets the root of the singular values.

    Args:
        map_IO: W.
        rank: K; at most as many as W has are kept, the others are zero.

    Returns:
        A and B with A @ B nearest to W among all products of that rank.
    """
    left_IK, sizes_K, right_KO = torch.linalg.svd(map_IO.double(), full_matrices=False)
    kept = min(rank, len(sizes_K))
    roots_K = sizes_K[:kept].sqrt()
    down_IK = map_IO.new_zeros(map_IO.shape[0], rank)
    up_KO = map_IO.new_zeros(rank, map_IO.shape[1])
    down_IK[:, :kept] = left_IK[:, :kept] * roots_K
    up_KO[:kept] = roots_K[:, None] * right_KO[:kept]
    return down_IK, up_KO
