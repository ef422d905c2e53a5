"""KL divergence from a second model: how far the model's predictions are from those of, say, the retrained one.

Source: Kullback and Leibler 1951, On information and sufficiency; between a retrained and an unlearned model as
released with SFR-on (Huang et al. 2024, arXiv:2409.19732).

    KL = 1/L * sum over the L scored positions of  sum_v q(v) [log q(v) - log p(v)]      nats; q: the second model

Without a second model beside the measured one nothing is scored.

By hand: one position with q = (1/2, 1/2) and p = (1/4, 3/4): KL = ln(2)/2 + ln(2/3)/2 = 0.1438.
"""

from __future__ import annotations

import math

from palimpsest.metrics.metric import Ask, Facts, Metric, Statistics, summed
from palimpsest.records import Direction


class KLBeside(Metric):
    """KL(second model ‖ model); per example the mean over its scored positions, over a set the mean over examples."""

    means = "How far the model's predictions are from those of a second model beside it, such as the retrained one."
    direction = Direction.NEITHER
    modalities = ("text", "labels", "image")
    asks = frozenset({Ask.BESIDE})
    unit = "nats per token"
    image_unit = "nats"
    label_unit = "nats"
    high = math.inf
    version = 1

    def update(self, facts: Facts) -> Statistics | None:
        """Summed divergence in nats and scored positions; None without any."""
        return summed(facts.kl_S)


METRIC = KLBeside
