"""Terms of a loss that many methods have: the likelihood of sets, of wrong labels, of one answer before another.

Shape legend: S scored positions, B rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from jaxtyping import Float
from torch import Tensor, nn

from palimpsest.data.encode.batch import Batch, Predictions, predict_together
from palimpsest.models.preference import preference_loss
from palimpsest.models.wrong_labels import wrong_labels
from palimpsest.phases import Term

Recall = Callable[[nn.Module, Batch], Predictions]
"""What the reference says of a batch (``Method.recall``)."""


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
    model: nn.Module, batches: Mapping[str, Batch], weights: Mapping[str, float] | None = None
) -> dict[str, Term]:
    """As ``likelihood`` of all sets at hand, in one pass where a layer looks at the whole batch."""
    said = predict_together(model, batches)
    of = dict.fromkeys(said, 1.0) if weights is None else weights
    return {name: Term(-one.logp_S.sum(), of=name, weight=of[name]) for name, one in said.items()}


def wrong_and_right(model: nn.Module, batches: Mapping[str, Batch], *, wrong: float, right: float) -> dict[str, Term]:
    """−Σ_s log p_s of labels drawn anew for forget, none of them the right one, and of retain's own.

    Args:
        model: that learns.
        batches: of one step.
        wrong: factor of the first.
        right: factor of the second.
    """
    forget, retain = batches["forget"].predict(model), batches["retain"].predict(model)
    mislabelled = replace(forget, target_S=wrong_labels(forget.target_S, forget.logits_SV.shape[1]))
    return {
        "wrong": Term(-mislabelled.logp_S.sum(), of="forget", weight=wrong),
        "retain": Term(-retain.logp_S.sum(), of="retain", weight=right),
    }


def preferred(
    model: nn.Module, batches: Mapping[str, Batch], better: str, recall: Recall, beta: float
) -> dict[str, Term]:
    """The preference for the rows of a set to those of forget beside them, mean over pairs.

    Args:
        model: that learns.
        batches: of one step.
        better: the set that is paired with forget.
        recall: the reference.
        beta: inverse temperature.
    """
    win_B, lose_B = (_log_ratio(model, batches[name], recall) for name in (better, "forget"))
    return {"preference": Term(preference_loss(win_B, lose_B, beta), of="forget", per="example")}


def _log_ratio(model: nn.Module, batch: Batch, recall: Recall) -> Float[Tensor, "B"]:
    """Log p − log p_ref of each example, nats."""
    said = batch.predict(model)
    return said.logp_B - recall(model, batch).logp_B
