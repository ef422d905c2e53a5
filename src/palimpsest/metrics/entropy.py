"""Entropy of the model's predictions where an answer stands: how sure the model is, right or wrong.

Source: Shannon 1948, A mathematical theory of communication, section 6; as a sign of membership Chundawat et al. 2022,
arXiv:2205.08096.

    H = 1/L * sum over the L scored positions of  - sum_v p(v) log p(v)      nats

By hand: one position with p = (1/2, 1/4, 1/4): H = 1.5 ln 2 = 1.0397; a sure one has 0, so both together 0.5199.
"""

from __future__ import annotations

import math

from palimpsest.metrics.metric import Ask, Facts, Metric, Statistics, summed
from palimpsest.records import Direction


class Entropy(Metric):
    """Prediction entropy; per example the mean over its scored positions, over a set the mean over examples."""

    means = "How sure the model is of what it says where the answer stands, be it right or wrong: 0 is quite sure."
    direction = Direction.LOWER
    modalities = ("text", "labels", "image")
    asks = frozenset({Ask.MOMENTS})
    unit = "nats per token"
    image_unit = "nats"
    label_unit = "nats"
    high = math.inf
    version = 1

    def update(self, facts: Facts) -> Statistics | None:
        """Summed entropy in nats and scored positions; None without any."""
        return summed(None if facts.moments is None else facts.moments.entropy_S)


METRIC = Entropy
