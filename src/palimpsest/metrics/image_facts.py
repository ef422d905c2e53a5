"""What an image classifier says about each image, as facts for the metrics.

Shape legend: B images of a batch, V classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from torch import nn

from palimpsest.data.encode.batch import Batch, Predictions
from palimpsest.data.encode.image import ImageSet
from palimpsest.errors import DivergedError
from palimpsest.metrics.metric import Facts, Moments

FactsById = list[tuple[str, Facts]]
Further = tuple[Moments | None, np.ndarray | None]
"""Moments and divergences of one image."""


def image_facts(
    model: nn.Module, examples: ImageSet, batch_size: int, look: Callable[[Batch, Predictions], Sequence[Further]]
) -> Iterator[FactsById]:
    """Facts about all images, a batch at a time, never augmented.

    Args:
        model: in eval mode.
        examples: any number.
        batch_size: images per forward pass.
        look: what the whole predictions say of each image of a batch.

    Raises:
        DivergedError: logits that are not finite numbers.
    """
    plain = examples.plain()
    device = next(model.parameters()).device
    for start in range(0, len(plain), batch_size):
        batch = plain.batch(plain.ids[start : start + batch_size])
        predictions = batch.to(device).predict(model)
        finite_B = predictions.logits_SV.isfinite().all(1)
        if not bool(finite_B.all()):
            example_id = batch.ids[int(finite_B.long().argmin())]
            raise DivergedError(
                f"the model's logits on example {example_id!r} are not finite numbers; nothing to measure"
            )
        right_B = (predictions.logits_SV.argmax(1) == predictions.target_S).cpu().numpy()
        logp_B = predictions.logp_S.cpu().numpy()
        rows = zip(batch.label_B.numpy(), right_B, logp_B, look(batch, predictions), strict=True)
        yield [(i, _facts(*row)) for i, row in zip(batch.ids, rows, strict=True)]


def _facts(label: np.int64, right: np.bool_, logp: np.float32, further: Further) -> Facts:
    moments, kl_S = further
    place, right_S, logp_S = np.array([0]), np.array([right]), np.array([logp])
    return Facts(np.array([label]), place, right_S, logp_S, ends_with_eos=False, moments=moments, kl_S=kl_S)
