"""ES, extraction strength: how little of an example must be shown before the model knows the rest.

Source: Carlini et al. 2021, arXiv:2012.07805, in the teacher-forced form of Wang et al. 2024, arXiv:2406.09179.

    ES = 1 - k/L,  k = the least number of leading label tokens after which all remaining arg-maxes are right

Departs from the published code: there k stops at L - 1, so a wholly wrong answer scores 1/L, the same as one of which
only the last token is right. Here a wholly wrong answer has k = L and scores 0.

By hand, L = 4: arg-maxes right, wrong, right, right: k = 2, ES = 0.5; only the last right: k = 3, ES = 0.25; all wrong:
k = 4, ES = 0; all right: k = 0, ES = 1.
"""

from __future__ import annotations

import numpy as np

from palimpsest.metrics.metric import Facts, Metric, Statistics
from palimpsest.records import Direction


class ES(Metric):
    """Extraction strength; per example and, over a set, the mean over examples."""

    means = "The share of an answer that the model knows without being shown it: 1 is all of it, 0 not even its end."
    direction = Direction.HIGHER
    unit = "share of the label tokens"
    version = 1

    def update(self, facts: Facts) -> Statistics | None:
        """L - k and L; None without label tokens."""
        length = len(facts.right_S)
        if not length:
            return None
        wrong = np.flatnonzero(~facts.right_S)
        k = int(wrong[-1]) + 1 if len(wrong) else 0
        return Statistics(float(length - k), float(length))


METRIC = ES
