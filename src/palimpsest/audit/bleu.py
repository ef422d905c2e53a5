"""BLEU of one sentence, as the refinement of the published ICU code uses it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction

MAX_ORDER = 4


def sentence_bleu(candidate: Sequence[str], reference: Sequence[str]) -> float:
    """BLEU-4 of one candidate against one reference, uniform weights, no smoothing.

        BLEU = min(1, exp(1 − r/c)) · (Π_{n=1..4} p_n)^{1/4},   p_n = clipped matching n-grams / candidate n-grams

    Args:
        candidate: c words.
        reference: r words.

    Returns:
        0 to 1; 0 when any order has no match (the published code's library returns about 1e-78 there).

    Source: Papineni et al. 2002, "BLEU: a Method for Automatic Evaluation of Machine Translation", section 2.

    >>> sentence_bleu("a b c d e".split(), "a b c d f".split())
    0.668740304976422
    """
    if not candidate:
        return 0.0
    precisions = [_precision(candidate, reference, n) for n in range(1, MAX_ORDER + 1)]
    if not all(precisions):
        return 0.0
    brevity = min(0.0, 1.0 - len(reference) / len(candidate))
    return math.exp(brevity + sum(math.log(p) for p in precisions) / MAX_ORDER)


def _precision(candidate: Sequence[str], reference: Sequence[str], n: int) -> Fraction:
    """Share of the candidate's n-grams that the reference has, each at most as often as it has it."""
    own, other = _ngrams(candidate, n), _ngrams(reference, n)
    return Fraction(sum((own & other).values()), max(1, sum(own.values())))


def _ngrams(words: Sequence[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))
