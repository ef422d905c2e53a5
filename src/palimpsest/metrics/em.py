"""EM, exact memorisation: the share of answer tokens whose teacher-forced arg-max is right.

Source: Tirumala et al. 2022, arXiv:2205.10770, section 2; in this form, with a closing end-of-sequence token left out,
Dorna et al. 2025, arXiv:2506.12618 (OpenUnlearning).

    EM = 1/L * sum_{j=1..L} [ argmax_v p(v | prompt, y_<j) = y_j ]

y_1 .. y_L are the label tokens without the end-of-sequence token that ends the answer, if there is one.

By hand: answer 6 7 8 eos with arg-maxes 6 9 8 eos: EM = 2/3 (MA of the same example is 3/4).
"""

from __future__ import annotations

from palimpsest.metrics.metric import Facts, Metric, Statistics, share_right
from palimpsest.records import Direction


class EM(Metric):
    """Exact memorisation; per example and, over a set, the mean over examples."""

    means = "The share of an answer's tokens that the model would write next, the closing one left out."
    direction = Direction.HIGHER
    unit = "share of tokens"
    version = 1

    def update(self, facts: Facts) -> Statistics | None:
        """Right arg-maxes and answer tokens; None when the answer is empty without its eos."""
        return share_right(facts.right_S[:-1] if facts.ends_with_eos else facts.right_S)


METRIC = EM
