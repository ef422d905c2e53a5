"""Which neurons matter: relevance at a linear layer, and rankings from it. Pure functions, for texts and images alike.

Source: LRA-NPP 2024 (zero-shot class unlearning by relevance analysis), steps 1 to 3: relevance by the epsilon rule,
the largest of each example, a ranking by how often a neuron is among them. At the input of the last linear layer the
rule comes down to activation times weight (``head_relevance``), up to a factor for each example that no order sees.

    z_j = Σ_i a_i w_ji + b_j,   R_i = a_i Σ_j w_ji R_j / ( z_j + eps sign(z_j) )

The gamma rule is the same with  w + γ max(w, 0)  and  b + γ max(b, 0)  (Montavon et al. 2019, Layer-wise relevance
propagation: an overview), which leans to what speaks for a class.

Shape legend: N examples, K neurons, I and O what enters and leaves a linear layer, C classes.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def epsilon_rule(
    a_NI: Float[Tensor, "N I"],
    weight_OI: Float[Tensor, "O I"],
    bias_O: Float[Tensor, "O"] | None,
    relevance_NO: Float[Tensor, "N O"],
    *,
    epsilon: float = 0.1,
) -> Float[Tensor, "N I"]:
    """Relevance of what enters a linear layer; the bias keeps its part.

    >>> a, w = torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 1.0]])
    >>> epsilon_rule(a, w, None, torch.tensor([[5.0]]), epsilon=0.0).tolist()
    [[3.0, 2.0]]
    """
    z_NO = a_NI @ weight_OI.T + (0 if bias_O is None else bias_O)
    sign_NO = torch.where(z_NO < 0, -1.0, 1.0)
    return a_NI * ((relevance_NO / (z_NO + epsilon * sign_NO)) @ weight_OI)


def head_relevance(
    a_NI: Float[Tensor, "N I"], weight_CI: Float[Tensor, "C I"], class_N: Int[Tensor, "N"]
) -> Float[Tensor, "N I"]:
    """A · W[c]: relevance for one logit of each example at the input of the last layer.

    >>> head_relevance(torch.tensor([[1.0, 2.0]]), torch.tensor([[0.0, 0.0], [3.0, 1.0]]), torch.tensor([1])).tolist()
    [[3.0, 2.0]]
    """
    return a_NI * weight_CI[class_N]


def gamma_weights(weight_CI: Float[Tensor, "*C I"], gamma: float) -> Float[Tensor, "*C I"]:
    """W + γ max(W, 0): what the gamma rule puts in the place of a weight, or of a bias.

    >>> gamma_weights(torch.tensor([[2.0, -2.0]]), 0.5).tolist()
    [[3.0, -2.0]]
    """
    return weight_CI + gamma * weight_CI.clamp(min=0)


def logit_relevance(
    a_NI: Float[Tensor, "N I"],
    weight_NI: Float[Tensor, "N I"],
    bias_N: Float[Tensor, "N"],
    *,
    epsilon: float = 0.1,
    gamma: float = 0.0,
) -> Float[Tensor, "N I"]:
    """Relevance at the input of the last layer, of one logit of each example that starts with its own value.

    It equals ``epsilon_rule`` with all of the relevance on that logit, and takes a row of the weight instead of all.

    Args:
        a_NI: what enters the layer.
        weight_NI: the row of each example's class.
        bias_N: its bias.
        epsilon: of the rule.
        gamma: 0 = the epsilon rule.

    >>> a, w = torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 1.0]])
    >>> logit_relevance(a, w, torch.tensor([0.0]), epsilon=0.0).tolist()
    [[3.0, 2.0]]
    """
    start_N = (a_NI * weight_NI).sum(1) + bias_N
    leaning_NI, leaning_N = gamma_weights(weight_NI, gamma), gamma_weights(bias_N[None], gamma)[0]
    z_N = (a_NI * leaning_NI).sum(1) + leaning_N
    share_N = start_N / (z_N + epsilon * torch.where(z_N < 0, -1.0, 1.0))
    return a_NI * leaning_NI * share_N[:, None]


def top_of_each(relevance_NK: Float[Tensor, "N K"], count: int) -> Bool[Tensor, "N K"]:
    """The neurons of largest relevance of each example; of equal ones the first.

    >>> top_of_each(torch.tensor([[0.1, 0.9, -3.0, 0.5]]), 2).tolist()
    [[False, True, False, True]]
    """
    order_NK = relevance_NK.argsort(dim=1, descending=True, stable=True)[:, :count]
    return torch.zeros_like(relevance_NK, dtype=torch.bool).scatter(1, order_NK, value=True)


def above_share(relevance_NK: Float[Tensor, "N K"], share: float) -> Bool[Tensor, "N K"]:
    """The neurons of each example with at least a share of its largest relevance, where that is above 0.

    >>> above_share(torch.tensor([[0.1, 0.9, -3.0, 0.5], [-1.0, -2.0, 0.0, -1.0]]), 0.5).tolist()
    [[False, True, False, True], [False, False, False, False]]
    """
    largest_N1 = relevance_NK.amax(1, keepdim=True)
    return (relevance_NK >= share * largest_N1) & (largest_N1 > 0)


def ranked_by_count(
    chosen_NK: Bool[Tensor, "N K"],
    relevance_NK: Float[Tensor, "N K"],
    against_MK: Bool[Tensor, "M K"] | None = None,
    *,
    contrast: float = 0.0,
) -> list[int]:
    """Neurons by the share of examples that chose them, the most often chosen first; of equal ones the more relevant.

    Args:
        chosen_NK: by each example.
        relevance_NK: its sum over examples breaks ties.
        against_MK: chosen by examples of what must stay.
        contrast: times their share is taken off.

    Returns:
        Those with anything left above 0.

    >>> chosen = torch.tensor([[True, True, False], [False, True, False]])
    >>> ranked_by_count(chosen, chosen.float())
    [1, 0]
    >>> ranked_by_count(chosen, chosen.float(), torch.tensor([[False, True, True]]), contrast=1.0)
    [0]
    """
    score_K = chosen_NK.double().mean(0)
    if against_MK is not None and len(against_MK):
        score_K = score_K - contrast * against_MK.double().mean(0)
    by_relevance_K = relevance_NK.double().sum(0).argsort(descending=True, stable=True)
    order_K = by_relevance_K[score_K[by_relevance_K].argsort(descending=True, stable=True)]
    return [int(k) for k in order_K if score_K[k] > 0]


def leaned_on(
    forget_NK: Float[Tensor, "N K"], retain_MK: Float[Tensor, "M K"], *, top: int, contrast: float
) -> list[int]:
    """The ranking: neurons among the top of many forget rows and of few retain rows first.

    >>> forget, retain = torch.tensor([[3.0, 2.0, 1.0], [2.0, 0.0, 1.0]]), torch.tensor([[1.0, 0.0, 0.0]])
    >>> leaned_on(forget, retain, top=2, contrast=0.0), leaned_on(forget, retain, top=2, contrast=0.9)
    ([0, 1, 2], [2, 0])
    """
    chosen, against = top_of_each(forget_NK, top), top_of_each(retain_MK, top)
    return ranked_by_count(chosen, forget_NK, against, contrast=contrast)
