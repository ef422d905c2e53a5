"""The shadow of a classifier of texts: a naive Bayes classifier of tokens, counted over what stays.

    class = argmax_c  log n_c + Σ_{w in text} log (n_cw + 1) / (n_c + 2)      of equal ones the smallest number

n_c: texts of class c that stay; n_cw: those of them with token w, however often and wherever it stands. It never saw
the forget set: where it errs on a text that the model gets right, the model may know that text by heart (a drawn
label), or may be the better classifier. So the holdout decides how much of either (``level.py``), and not this.

Source: McCallum & Nigam 1998, "A Comparison of Event Models for Naive Bayes Text Classification", multi-variate
Bernoulli with add-one smoothing. Departs from it: no factor for tokens that a text lacks.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from palimpsest.control.shadow import Tokens


class ToldByWords(NamedTuple):
    """Whether the words of a text tell its class: id -> does naive Bayes over what stays say it?

    Attributes:
        forget: of the texts to forget.
        unseen: of the holdout.
    """

    forget: Mapping[str, bool]
    unseen: Mapping[str, bool]


class WordShadow:
    """Counts of tokens by class."""

    def __init__(self, staying: Iterable[tuple[Tokens, int]]) -> None:
        """Count them.

        Args:
            staying: token ids and class number of each text that stays.
        """
        self._texts: Counter[int] = Counter()
        self._with: dict[int, Counter[int]] = {}
        for tokens, label in staying:
            self._texts[label] += 1
            self._with.setdefault(label, Counter()).update(set(tokens))

    @property
    def is_empty(self) -> bool:
        """Has it nothing to know from?"""
        return not self._texts

    def tells(self, tokens: Tokens, label: int) -> bool:
        """Is a text's class the one that its words say? Of texts that are known by it alone, so not while it is empty.

        >>> shadow = WordShadow([((1, 2), 0), ((1, 3), 0), ((4, 2), 1), ((4, 3), 1)])
        >>> shadow.tells((1, 2, 9), 0), shadow.tells((1, 2, 9), 1)
        (True, False)
        """
        words = set(tokens)
        return label == max(self._texts, key=lambda c: (self._score(words, c), -c))

    def _score(self, words: Iterable[int], label: int) -> float:
        there, texts = self._with[label], self._texts[label]
        return math.log(texts) + math.fsum(math.log((there[word] + 1) / (texts + 2)) for word in words)
