"""What a model says at the scored positions of each example, as facts for the metrics: of every family but causal LMs.

Shape legend: B examples of a batch, S scored positions, V classes or vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from torch import nn

from palimpsest.data.encode.any_set import MeasuredSet
from palimpsest.data.encode.batch import Batch, Predictions
from palimpsest.errors import DivergedError
from palimpsest.metrics.metric import Facts, Moments
from palimpsest.models.in_passes import in_passes

FactsById = list[tuple[str, Facts]]
Further = tuple[Moments | None, np.ndarray | None]
"""Moments and divergences of one example."""


def class_facts(
    model: nn.Module,
    examples: MeasuredSet,
    batch_size: int,
    look: Callable[[Batch, Predictions], Sequence[Further]],
    eos_ids: frozenset[int] = frozenset(),
) -> Iterator[FactsById]:
    """Facts about all examples, a batch at a time, never augmented.

    Args:
        model: in eval mode.
        examples: any number.
        batch_size: examples per forward pass.
        look: what the whole predictions say of each example of a batch.
        eos_ids: tokens that end a generation.

    Raises:
        DivergedError: logits that are not finite numbers.
    """
    for batch in in_passes(model, examples.plain(), batch_size):
        predictions = batch.predict(model)
        _refuse_not_finite(batch, predictions)
        right_S = (predictions.logits_SV.argmax(1) == predictions.target_S).cpu().numpy()
        logp_S, target_S = predictions.logp_S.cpu().numpy(), predictions.target_S.cpu().numpy()
        owner_S, further = predictions.owner_S.cpu().numpy(), look(batch, predictions)
        found = []
        for row, example_id in enumerate(batch.ids):
            mine_S = owner_S == row
            own = (target_S[mine_S], right_S[mine_S], logp_S[mine_S])
            found.append((example_id, _facts(*own, further[row], eos_ids)))
        yield found


def _refuse_not_finite(batch: Batch, predictions: Predictions) -> None:
    finite_S = predictions.logits_SV.isfinite().all(1)
    if not bool(finite_S.all()):
        example_id = batch.ids[int(predictions.owner_S[int(finite_S.long().argmin())])]
        raise DivergedError(f"the model's logits on example {example_id!r} are not finite numbers; nothing to measure")


def _facts(
    target_S: np.ndarray, right_S: np.ndarray, logp_S: np.ndarray, further: Further, eos_ids: frozenset[int]
) -> Facts:
    moments, kl_S = further
    closed = bool(eos_ids.intersection(target_S[-1:].tolist()))
    places = np.arange(len(target_S))
    return Facts(target_S, places, right_S, logp_S, ends_with_eos=closed, moments=moments, kl_S=kl_S)
