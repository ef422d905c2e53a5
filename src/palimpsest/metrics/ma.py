"""MA, memorization accuracy: the share of scored tokens that the model would write next.

Source: Tirumala et al. 2022, arXiv:2205.10770, section 2; as a criterion of forgetting Jang et al. 2022,
arXiv:2210.01504, Eq. 3.

    MA(x) = 1/|scored| * sum over scored t of [ argmax_v p(v | x_<t) = x_t ]

For plain text every token but the first is scored, which is the literal sum over t = 1 .. T-1 divided by T-1. An
end-of-sequence token that belongs to the example counts like any other.

By hand: tokens 5 6 7 8, arg-maxes at 1, 2, 3 are 6, 9, 8: MA = 2/3.
"""

from __future__ import annotations

from palimpsest.metrics.metric import Facts, Metric, Statistics, share_right
from palimpsest.records import Direction


class MA(Metric):
    """Memorization accuracy; per example and, over a set, the mean over examples."""

    means = "The share of tokens that the model would write next; common words are guessed, so unseen rows score too."
    direction = Direction.HIGHER
    unit = "share of tokens"
    version = 1

    def update(self, facts: Facts) -> Statistics | None:
        """Right arg-maxes and scored tokens; None without scored tokens."""
        return share_right(facts.right_S)


METRIC = MA
