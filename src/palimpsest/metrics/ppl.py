"""Perplexity per token.

Source: Jelinek et al. 1977, Perplexity, a measure of the difficulty of speech recognition tasks, JASA 62 S63.

    one example:  PPL = exp( nll / L )                      nll: summed over its L label tokens, nats
    a set:        PPL = exp( sum of nll / sum of L )        a ratio of sums: long examples weigh more

The logarithm is natural on both sides, so the value is a number of equally likely tokens, not bits. The mean nll is cut
at 700 nats, since exp(710) is beyond float64; a model that far gone reads 1.0e304.

By hand: examples with (nll, L) = (ln 8, 3) and (ln 2, 1): 2 and 2, together exp(ln 16 / 4) = 2; with (ln 8, 1) and
(0, 2): 8 and 1, together exp(ln 8 / 3) = 2.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float

from palimpsest.metrics.metric import Facts, Metric, Statistics, surprise
from palimpsest.records import Direction

_MOST_NATS = 700.0


class PPL(Metric):
    """Perplexity; per example exp of the mean, over a set exp of the mean over all its label tokens."""

    means = "Among how many equally likely tokens the model wavers at each step: how well it still knows the language."
    direction = Direction.LOWER
    unit = "equally likely tokens (exp of nats per token)"
    low = 1.0
    high = math.inf
    version = 1

    def update(self, facts: Facts) -> Statistics | None:
        """Negative log-likelihood in nats and label tokens; None without label tokens."""
        return surprise(facts.logp_S)

    def values(self, statistics_N2: Float[np.ndarray, "*N 2"]) -> Float[np.ndarray, "*N"]:
        """exp(mean nll)."""
        return np.asarray(np.exp(np.minimum(statistics_N2[..., 0] / statistics_N2[..., 1], _MOST_NATS)))

    def aggregate(self, statistics_N2: Float[np.ndarray, "*R N 2"]) -> Float[np.ndarray, "*R"]:
        """exp(total nll / total tokens)."""
        return self.values(statistics_N2.sum(-2))


METRIC = PPL
