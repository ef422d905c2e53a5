"""What can be told of tokens without a model: which ones, two and three together, occur. Nothing of it is learned.

    f_t = Σ_{n=1..3} s(h_n) e_{h_n mod D},     h_n a hash of the last n tokens, s = ± 1 by one of its bits

So the running mean of f is a text's bag of words, pairs and triples, hashed into D numbers, and a linear score of it
can tell texts about one thing from texts about others: that is all a guard in front of an endpoint has to go by.

Source: Weinberger et al. 2009, "Feature Hashing for Large Scale Multitask Learning", arXiv:0902.2206.

Shape legend: B rows, T tokens, D width.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

_GRAMS = 3
_PRIME, _FACTOR = 2_147_483_647, 1_000_003
"""A prime below 2^31, so that products of two numbers below it and the factor fit into 64 bits."""


def hashed(tokens_BT: Int[Tensor, "B T"], n: int) -> Int[Tensor, "B T"]:
    """A number below 2^31 for each token and the n - 1 before it; before a text there is nothing.

    >>> found = hashed(torch.tensor([[5, 7, 5, 7]]), 2)
    >>> bool(found[0, 1] == found[0, 3]), bool(found[0, 0] == found[0, 2])
    (True, False)
    """
    found_BT = torch.full_like(tokens_BT, n)
    for back in range(n):
        shifted_BT = nn.functional.pad(tokens_BT + 1, (back, 0))[:, : tokens_BT.shape[1]]
        found_BT = (found_BT * _FACTOR + shifted_BT) % _PRIME
        found_BT = (found_BT * 48_271) % _PRIME  # a step of a multiplicative generator mixes the bits
    return found_BT


class TokenReader(nn.Module):
    """A module whose output other parts can read as that of a block."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, tokens_BT: Int[Tensor, "B T"]) -> Float[Tensor, "B T D"]:
        """Signed counts at each position."""
        found_BTD = torch.zeros(*tokens_BT.shape, self.width, device=tokens_BT.device)
        for n in range(1, _GRAMS + 1):
            number_BT = hashed(tokens_BT, n)
            sign_BT = 1.0 - 2.0 * ((number_BT // self.width) % 2)
            found_BTD.scatter_add_(-1, (number_BT % self.width)[..., None], sign_BT[..., None])
        return found_BTD
