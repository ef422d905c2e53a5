"""Answer probability, length-normalised: the geometric mean of the probabilities of the label tokens.

Source: Maini et al. 2024, arXiv:2401.06121 (TOFU), section 2.2.1.

    Prob = p(y | prompt)^(1/L) = exp( -1/L * sum_{j=1..L} nll_j ),  nll in nats

Of an image it is the probability of its class.

By hand: two label tokens with probabilities 1/2 and 1/8: Prob = (1/16)^(1/2) = 0.25.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from palimpsest.metrics.metric import Facts, Metric, Statistics, surprise
from palimpsest.records import Direction

if TYPE_CHECKING:
    from jaxtyping import Float


class Prob(Metric):
    """Length-normalised probability; per example and, over a set, the mean over examples."""

    means = "How probable the model finds the answer, per token; of an image, its class."
    direction = Direction.HIGHER
    modalities = ("text", "labels", "image")
    unit = "probability per token"
    image_unit = "probability of the class, per image"
    label_unit = "probability of the class, per text"
    version = 1

    def update(self, facts: Facts) -> Statistics | None:
        """Negative log-likelihood in nats and label tokens; None without label tokens."""
        return surprise(facts.logp_S)

    def values(self, statistics_N2: Float[np.ndarray, "*N 2"]) -> Float[np.ndarray, "*N"]:
        """exp(-mean nll)."""
        return np.asarray(np.exp(-statistics_N2[..., 0] / statistics_N2[..., 1]))


METRIC = Prob
