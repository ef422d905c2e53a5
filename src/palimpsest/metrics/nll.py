"""NLL, negative log-likelihood: how surprised the model is by the right answer, per scored position.

Source: Shannon 1948, A mathematical theory of communication, section 7; as a loss Bishop 2006, section 4.3.4.

    NLL = -1/L * sum_{j=1..L} log p(y_j | ...)                               nats

Of an image it is the cross-entropy of its class. Perplexity is exp of it, but over a set PPL weighs tokens and NLL
examples.

By hand: two label tokens with probabilities 1/2 and 1/8: NLL = (ln 2 + ln 8) / 2 = 1.3863.
"""

from __future__ import annotations

import math

from palimpsest.metrics.metric import Ask, Facts, Metric, Statistics, summed
from palimpsest.records import Direction


class NLL(Metric):
    """Negative log-likelihood; per example the mean over its positions, over a set the mean over examples."""

    means = "How surprised the model is by the right answer, per token; of an image, by its class."
    direction = Direction.LOWER
    modalities = ("text", "labels", "image")
    asks = frozenset({Ask.LIKELIHOOD})
    unit = "nats per token"
    image_unit = "nats"
    label_unit = "nats"
    high = math.inf
    version = 1

    def update(self, facts: Facts) -> Statistics | None:
        """Negative log-likelihood in nats and scored positions; None without any."""
        return summed(None if facts.moments is None else -facts.moments.logp_S)


METRIC = NLL
