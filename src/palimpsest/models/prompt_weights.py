"""Which prompts an example gets: from its query and the prompts' keys to a weight for each prompt.

Shape legend: B rows, M prompts, D width of the query, k prompts that are chosen.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

_TINY = 1e-12
_GONE = 1e-4  # share of a vector's length below which what is left of it is rounding


def key_cosines(query_BD: Float[Tensor, "B D"], key_MD: Float[Tensor, "M D"]) -> Float[Tensor, "B M"]:
    """cos(q, K_m), each side divided by its own length.

    >>> key_cosines(torch.tensor([[2.0, 0.0]]), torch.tensor([[3.0, 0.0], [0.0, 1.0]])).tolist()
    [[1.0, 0.0]]
    """
    return F.normalize(query_BD.float(), dim=-1) @ F.normalize(key_MD.float(), dim=-1).T


def attended_cosines(
    query_BD: Float[Tensor, "B D"], attention_MD: Float[Tensor, "M D"], key_MD: Float[Tensor, "M D"]
) -> Float[Tensor, "B M"]:
    """cos(q ⊙ A_m, K_m): every component looks at the query through an attention of its own.

    >>> one = torch.tensor([[1.0, 1.0]])
    >>> attended_cosines(one, torch.tensor([[0.0, 5.0]]), torch.tensor([[0.0, 2.0]])).tolist()
    [[1.0]]
    """
    # each divided by its length first, so that the floor under the product means the same for all of them
    query_BD, attention_MD, key_MD = (F.normalize(of.float(), dim=-1) for of in (query_BD, attention_MD, key_MD))
    length_BM = (query_BD.square() @ attention_MD.square().T).clamp(min=_TINY).sqrt()
    return query_BD @ (attention_MD * key_MD).T / length_BM


def nearest_prompts(score_BM: Float[Tensor, "B M"], count: int) -> Int[Tensor, "B k"]:
    """The prompts of the highest scores, the highest first; of equal ones the first.

    >>> nearest_prompts(torch.tensor([[0.1, 0.9, 0.9]]), 2).tolist()
    [[1, 2]]
    """
    return torch.argsort(score_BM.detach(), dim=1, descending=True, stable=True)[:, :count]


def majority_prompts(chosen_Bk: Int[Tensor, "B k"], prompts: int) -> Int[Tensor, "B k"]:
    """What most rows of a batch chose, for all of them; of equally many the first.

    >>> majority_prompts(torch.tensor([[0, 2], [2, 1], [2, 1]]), 3).tolist()
    [[2, 1], [2, 1], [2, 1]]
    """
    votes_M = torch.bincount(chosen_Bk.flatten(), minlength=prompts)
    order = torch.argsort(votes_M, descending=True, stable=True)[: chosen_Bk.shape[1]]
    return order.expand(len(chosen_Bk), -1)


def entropy_of(rows_M: Float[Tensor, "M"]) -> float:
    """Of the shares of prompts, nats: 0 where one is always chosen, log M where all equally often.

    >>> entropy_of(torch.tensor([4.0, 0.0])), round(entropy_of(torch.tensor([2.0, 2.0])), 3)
    (0.0, 0.693)
    """
    share_M = rows_M.double() / rows_M.sum().clamp(min=1)
    return abs(float(-torch.special.xlogy(share_M, share_M).sum()))


def orthogonal_to(new_MD: Float[Tensor, "M D"], earlier_KD: Float[Tensor, "K D"]) -> Float[Tensor, "M D"]:
    """New vectors made orthogonal to earlier ones and to each other, of length 1 (Gram-Schmidt, in float64).

    A space of D has room for D of them. One for which there is none left is divided by its length and stays as it is.

    Args:
        new_MD: where they begin.
        earlier_KD: need not be orthogonal to each other; none of length 0 counts.

    >>> orthogonal_to(torch.tensor([[3.0, 4.0]]), torch.tensor([[2.0, 0.0]])).tolist()
    [[0.0, 1.0]]
    """
    basis: list[Tensor] = []
    for vector_D in earlier_KD.double():
        _add_rest(basis, vector_D)
    made = []
    for vector_D in new_MD.double():
        rest_D = _add_rest(basis, vector_D)
        made.append(F.normalize(vector_D, dim=0) if rest_D is None else rest_D)
    return torch.stack(made).to(new_MD.dtype)


def _add_rest(basis: list[Tensor], vector_D: Tensor) -> Tensor | None:
    """Add what of a vector is in no earlier one; None, and nothing added, where that is nothing."""
    rest_D = vector_D
    for _ in range(2):  # once is not orthogonal to the last bit
        for unit_D in basis:
            rest_D = rest_D - (rest_D @ unit_D) * unit_D
    if rest_D.norm() <= _GONE * vector_D.norm().clamp(min=_TINY):
        return None
    basis.append(rest_D / rest_D.norm())
    return basis[-1]


def off_orthogonal(vector_MD: Float[Tensor, "M D"]) -> Float[Tensor, ""]:
    """Mean (V Vᵀ − 1)²: 0 where the vectors are orthogonal and of length 1.

    >>> off_orthogonal(torch.eye(3)).item(), off_orthogonal(2 * torch.eye(2)).item()
    (0.0, 4.5)
    """
    gram_MM = vector_MD @ vector_MD.T
    return (gram_MM - torch.eye(len(gram_MM), device=gram_MM.device, dtype=gram_MM.dtype)).square().mean()
