"""EL_n, extraction likelihood: how much of what follows a prefix the model writes by itself, over all prefixes.

Source: Jang et al. 2022, arXiv:2210.01504, Eqs. 1 and 2; from later prefixes only Tang et al. 2024, arXiv:2407.20271.

    OV_n(i) = #{ n-grams of c_i, with multiplicity, that occur in x_i .. x_{T-1} } / (T - i - n + 1)
    EL_n(x) = 1/(T - i0 - (n-1)) * sum_{i=i0}^{T-n} OV_n(i)

c_i is the greedy continuation of x_0 .. x_{i-1} up to total length T; after an end-of-sequence token it is filled up.
i0 is ``first_prefix``, or the position of the first scored token where that is later (a prompt is not extracted).

Departs from the paper: OV_n divides by the n-grams of the reference, as the published code does, not by those of the
continuation; the two differ only where a continuation ends early.

Counting: with last(g) the last start of n-gram g in x, the n-gram of a continuation at start s >= i counts for prefix
i exactly when last(g) >= i. So one pass over a chain's continuation serves all its prefixes.

By hand, n = 2, x = 1 2 3 1 2, i0 = 1: prefix 1 continued by 2 3 1 2 matches 3 of 3; prefix 1 2 continued by 1 2 1
holds (1 2) and (2 1): 1 of 2; prefix 1 2 3 continued by 9 9 matches 0 of 1: EL_2 = (1 + 1/2 + 0) / 3 = 0.5.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from palimpsest.metrics.greedy.ngrams import last_starts
from palimpsest.metrics.metric import Ask, Decoding, Facts, Greedy, Metric, Options, Statistics
from palimpsest.records import Direction

if TYPE_CHECKING:
    from jaxtyping import Float, Int


class ELOptions(Options):
    """Options of EL_n."""

    n: int = Field(default=10, ge=1)
    """length of the n-grams, tokens; 10 in the paper"""
    first_prefix: int = Field(default=1, ge=1)
    """length of the shortest prefix, tokens; 1 in the paper's formula, 150 of 200 in ICU's code"""


def overlaps(tokens_T: Int[np.ndarray, "T"], greedy: Greedy, *, n: int, first: int) -> Float[np.ndarray, "P"]:
    """OV_n of the prefixes of ``first`` .. T - n tokens, in this order, P = T - n - first + 1 of them.

    Args:
        tokens_T: the example.
        greedy: its continuations, from a prefix of at most ``first`` tokens on.
        n: length of the n-grams.
        first: length of the shortest prefix.
    """
    length = len(tokens_T)
    ends_C, tokens_CT = greedy.ends_C, greedy.tokens_CT
    last_CW = last_starts(tokens_T, tokens_CT, n)
    # A window at start s counts for the prefixes i <= min(s, last): the counts are a reversed cumulative histogram.
    limit_CW = np.minimum(np.arange(last_CW.shape[1]), last_CW)
    cell_CW = limit_CW + length * np.arange(len(ends_C))[:, None]
    histogram_CT = np.bincount(cell_CW[limit_CW >= first], minlength=len(ends_C) * length).reshape(-1, length)
    counts_CT = histogram_CT[:, ::-1].cumsum(1)[:, ::-1]
    prefixes_P = np.arange(first, length - n + 1)
    chain_P = np.searchsorted(ends_C, prefixes_P)
    possible_P = length - prefixes_P - n + 1
    found_P = possible_P.copy()  # behind the last chain every arg-max is right and every window matches
    inside = chain_P < len(ends_C)
    found_P[inside] = counts_CT[chain_P[inside], prefixes_P[inside]]
    return found_P / possible_P


class EL(Metric):
    """Extraction likelihood; per example and, over a set, the mean over examples."""

    Config = ELOptions
    means = "Shown the beginning of a text, how much of what follows the model writes by itself, in runs of n tokens."
    direction = Direction.HIGHER
    unit = "share of n-grams"
    asks = frozenset({Ask.TEACHER, Ask.GREEDY})
    version = 1

    @property
    def key(self) -> str:
        """``el_10`` for n = 10."""
        return f"el_{self.config.n}"

    @property
    def decoding(self) -> Decoding:
        """Prefixes from ``first_prefix`` on."""
        return Decoding(self.config.first_prefix, self.config.n)

    def update(self, facts: Facts) -> Statistics | None:
        """Sum of OV_n and number of prefixes; None when no n-gram follows the first prefix."""
        if not len(facts.scored_S):
            return None
        first = max(self.config.first_prefix, int(facts.scored_S[0]))
        if len(facts.tokens_T) - first < self.config.n:
            return None
        if facts.greedy is None:
            raise ValueError("EL needs the greedy continuations it asked for in `decoding`")
        overlaps_P = overlaps(facts.tokens_T, facts.greedy, n=self.config.n, first=first)
        return Statistics(float(overlaps_P.sum()), float(len(overlaps_P)))


METRIC = EL
