"""The shadow of a classifier of texts: what the words of a text say of its class, counted over what stays.

    class = argmax_c  log n_c + Σ_{w in text} log (n_cw + 1) / (n_c + 2)

n_c: texts of class c that stay; n_cw: those of them with token w. It never saw the forget set, and tells apart texts
that a model without them would get right all the same from those that must be known by heart, such as a wrong label.

Source: naive Bayes over the presence of words, McCallum & Nigam 1998, "A Comparison of Event Models for Naive Bayes
Text Classification", with the words that are there alone, and add-one smoothing.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable

from palimpsest.control.shadow import Tokens


class WordShadow:
    """Counts of words by class."""

    def __init__(self, staying: Iterable[tuple[Tokens, int]]) -> None:
        self._texts: Counter[int] = Counter()
        self._with: dict[int, Counter[int]] = {}
        for tokens, label in staying:
            self._texts[label] += 1
            self._with.setdefault(label, Counter()).update(set(tokens))

    @property
    def classes(self) -> frozenset[int]:
        """That it knows."""
        return frozenset(self._texts)

    def tells(self, tokens: Tokens, label: int) -> bool:
        """Is a text's class the one that its words say?

        >>> shadow = WordShadow([((1, 2), 0), ((1, 3), 0), ((4, 2), 1), ((4, 3), 1)])
        >>> shadow.tells((1, 2, 9), 0), shadow.tells((1, 2, 9), 1)
        (True, False)
        """
        words = set(tokens)
        return label == max(self._texts, key=lambda c: (self._score(words, c), -c))

    def _score(self, words: Iterable[int], label: int) -> float:
        there, texts = self._with[label], self._texts[label]
        return math.log(texts) + math.fsum(math.log((there[word] + 1) / (texts + 2)) for word in words)
