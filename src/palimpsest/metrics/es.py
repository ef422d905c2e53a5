"""ES, extraction strength: how little of an example must be shown before the model knows the rest.

Source: Carlini et al. 2021, arXiv:2012.07805, in the teacher-forced form of Wang et al. 2024, arXiv:2406.09179.

    ES = 1 - k/L,  k = the least number of leading answer tokens after which all remaining arg-maxes are right

The L answer tokens are the label tokens without the end-of-sequence token that closes the answer, if any, as in
EM and in the published code (Dorna et al. 2025, arXiv:2506.12618, OpenUnlearning).

Departs from the published code: there k stops at L - 1, so a wholly wrong answer scores 1/L, the same as one of which
only the last token is right. Here a wholly wrong answer has k = L and scores 0.

Version 1 counted the closing token as the last of the L. As one wrong token at the end is enough for ES = 0, it read 0
for text that a model writes word for word but does not end as our encoding does, and 0 after an edit that only took the
closing token away. By version 1 the examples below whose closing token is wrong are 0, the others (k, L + 1).

By hand, L = 4: arg-maxes right, wrong, right, right: k = 2, ES = 0.5; only the last right: k = 3, ES = 0.25; all wrong:
k = 4, ES = 0; all right: k = 0, ES = 1, be the arg-max of the closing token right or wrong.
"""

from __future__ import annotations

import numpy as np

from palimpsest.metrics.metric import Facts, Metric, Statistics
from palimpsest.records import Direction


class ES(Metric):
    """Extraction strength; per example and, over a set, the mean over examples."""

    means = (
        "The share of an answer that the model knows without being shown it, its closing token apart: 1 is by heart."
    )
    direction = Direction.HIGHER
    unit = "share of the answer's tokens"
    version = 2

    def update(self, facts: Facts) -> Statistics | None:
        """L - k and L; None when the answer is empty without its eos."""
        right_L = facts.right_S[:-1] if facts.ends_with_eos else facts.right_S
        length = len(right_L)
        if not length:
            return None
        wrong = np.flatnonzero(~right_L)
        k = int(wrong[-1]) + 1 if len(wrong) else 0
        return Statistics(float(length - k), float(length))


METRIC = ES
