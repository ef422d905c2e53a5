"""Two rates: the head's, and a slower one of everything below it."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from palimpsest.models.head_inputs import HeadIn
from palimpsest.models.scope import trainable


def slow_rates(model: nn.Module, head: HeadIn, share: float) -> Mapping[str, float]:
    """Factors of the learning rate, as ``Stage.rates`` has them.

    Args:
        model: with its scope applied.
        head: in it.
        share: of the head's rate that the rest gets, > 0.
    """
    rates = {head.pattern: 1.0}
    return rates if all(head.has(name) for name in trainable(model)) else {**rates, ".": share}
