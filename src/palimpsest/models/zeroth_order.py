"""A gradient from values alone: one-sided, averaged over random directions.

    u_j uniform on the unit sphere of R^d,  j = 1..q
    g_j = b (L(w + beta u_j) - L(w)) / beta · u_j,   b = d
    g   = mean_j g_j

Source: Tsai, Chen, Ho 2020, "Transfer Learning without Knowing: Reprogramming Black-box Machine Learning Models with
Scarce Data and Limited Resources" (BAR), ICML 2020; known from notes on it. With b = d the mean of g over the
directions is the gradient of L, as beta goes to 0; its cosine with it is about sqrt(q / (q + d - 1)).

Of a sum of losses each is tried along directions of its own: as many questions say of more directions. Where the
gradients of the losses are alike, that is worth as much as so many times the directions.

Shape legend: B losses that are tried apart, Q directions of each, P = Q + 1 places, D numbers of w.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from palimpsest.errors import ModelError
from palimpsest.method_card import Config


class EstimatorConfig(Config):
    """Options of a method that learns a few numbers before a model that may be one that can only be asked."""

    estimator: Literal["zeroth_order", "exact"] = "zeroth_order"
    """"zeroth_order" asks for values alone; "exact" needs the model's gradient."""
    q: int = Field(default=5, ge=1)
    """Directions of a step."""
    beta: float = Field(default=0.01, gt=0)
    """How far what is learned is moved along each."""


def check_estimator(method: str, config: EstimatorConfig, model: Any) -> None:
    """Refuse the exact gradient of what can only be asked.

    Raises:
        ModelError: it was asked for.
    """
    from palimpsest.models.families import of_model

    if config.estimator == "exact" and not of_model(model).has_gradient:
        raise ModelError(f"{method}.estimator = exact needs the model's gradient, and this one can only be asked; "
                         "accepted: zeroth_order")  # fmt: skip


def unit_directions(number: int, width: int, *key: int | str) -> Float[Tensor, "Q D"]:
    """Directions uniform on the unit sphere, a function of the key alone: a step that is taken again asks the same.

    Args:
        number: Q.
        width: D.
        key: e.g. the seed of a run, the number of a step and the id of a row.

    >>> torch.equal(unit_directions(2, 3, 0, 1), unit_directions(2, 3, 0, 1))
    True
    """
    seed = int.from_bytes(hashlib.sha256(repr(key).encode()).digest()[:7], "big")
    drawn = torch.randn(number, width, generator=torch.Generator().manual_seed(seed))
    lengths: Tensor = torch.linalg.vector_norm(drawn, dim=1, keepdim=True)
    return drawn / lengths


def zeroth_order_gradient(
    value: Float[Tensor, ""], moved_Q: Float[Tensor, "Q"], directions_QD: Float[Tensor, "Q D"], beta: float
) -> Float[Tensor, "D"]:
    """The estimate, from the value here and the values a little way along each direction.

    Args:
        value: L(w).
        moved_Q: L(w + beta u_j).
        directions_QD: u_j, of length 1.
        beta: how far, > 0.

    By hand, L(w) = 3 w in one dimension, u = (1), (-1): both give d · 3 · u · u = 3.

    >>> zeroth_order_gradient(torch.tensor(0.0), torch.tensor([0.3, -0.3]), torch.tensor([[1.0], [-1.0]]), 0.1).item()
    3.0
    """
    width = directions_QD.shape[1]
    slope_Q = width * (moved_Q - value) / beta
    return (slope_Q[:, None] * directions_QD).mean(0)


def with_gradient(
    value: Float[Tensor, ""], gradient_D: Float[Tensor, "D"], at_D: Float[Tensor, "D"]
) -> Float[Tensor, ""]:
    """A loss of this value whose gradient is the one given: linear in what moves.

    >>> w = torch.tensor([5.0], requires_grad=True)
    >>> loss = with_gradient(torch.tensor(2.0), torch.tensor([0.25]), w)
    >>> loss.backward(); loss.item(), w.grad.item()
    (2.0, 0.25)
    """
    linear = (gradient_D.detach() * at_D).sum()
    return linear + (value - linear).detach()


def estimated_loss(
    at_D: Float[Tensor, "D"],
    values_at: Callable[[Float[Tensor, "B P D"]], Float[Tensor, "B P"]],
    config: EstimatorConfig,
    keys: Sequence[tuple[int | str, ...]],
) -> Float[Tensor, ""]:
    """A sum of losses whose gradient is the sum of their estimates.

    Args:
        at_D: w, what moves.
        values_at: of each loss, its value at w itself and at q places beside it, without a graph.
        config: q and beta.
        keys: of the directions of each loss, B of them.

    By hand, L(w) = 3 w and another L(w) = w: the estimates are exact in one dimension.

    >>> w = torch.tensor([5.0], requires_grad=True)
    >>> slope_B1 = torch.tensor([[3.0], [1.0]])
    >>> loss = estimated_loss(w, lambda w_BPD: slope_B1 * w_BPD[..., 0], EstimatorConfig(q=2, beta=0.5), [(0,), (1,)])
    >>> loss.backward(); loss.item(), round(w.grad.item(), 4)
    (20.0, 4.0)
    """
    along_BQD = torch.stack([unit_directions(config.q, len(at_D), *key) for key in keys]).to(at_D.device)
    here_BPD = at_D.detach().expand(len(keys), 1, -1)
    with torch.no_grad():
        value_BP = values_at(torch.cat([here_BPD, here_BPD + config.beta * along_BQD], 1)).double()
    rows = zip(value_BP, along_BQD.double(), strict=True)
    estimates = [zeroth_order_gradient(value_P[0], value_P[1:], along_QD, config.beta) for value_P, along_QD in rows]
    return with_gradient(value_BP[:, 0].sum().float(), torch.stack(estimates).sum(0).float(), at_D)
