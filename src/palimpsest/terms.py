"""Terms of a loss that many methods have: the likelihood of whole sets.

Shape legend: S scored positions.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from palimpsest.data.encode.batch import Batch, predict_together
from palimpsest.phases import Term


def likelihood(
    model: nn.Module, batches: Mapping[str, Batch], weights: Mapping[str, float] | None = None
) -> dict[str, Term]:
    """−Σ_s log p_s of some sets, nats, each in a pass of its own.

    Args:
        model: that learns.
        batches: of one step.
        weights: set -> factor of its term, in the order of their passes; a set that is not at hand has none. Left out:
            all sets that are at hand, with the factor 1.
    """
    wanted = dict.fromkeys(batches, 1.0) if weights is None else weights
    return {
        name: Term(-batches[name].predict(model).logp_S.sum(), of=name, weight=weight)
        for name, weight in wanted.items()
        if name in batches
    }


def likelihood_together(
    model: nn.Module, batches: Mapping[str, Batch], weights: Mapping[str, float]
) -> dict[str, Term]:
    """As ``likelihood`` of all sets at hand, in one pass where a layer looks at the whole batch."""
    said = predict_together(model, batches)
    return {name: Term(-one.logp_S.sum(), of=name, weight=weights[name]) for name, one in said.items()}
