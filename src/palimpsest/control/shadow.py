"""The shadow of the oracle: an n-gram model of what stays. It provably never saw the forget set.

    p_0(w) = 1 / V                                       or the base model's distribution at the position
    p_k(w | c) = λ · n(c, w) / n(c) + (1 − λ) · p_{k−1}(w | shorter c),   λ = n(c) / (n(c) + d(c))

n(c, w): how often token w follows the context c of k − 1 tokens; n(c): how often anything does; d(c): how many
different tokens do. Contexts grow to ``order`` − 1 tokens and end at the first that was never met.

Source: Witten & Bell 1991, "The zero-frequency problem", IEEE Trans. Inf. Theory 37(4), method C, interpolated as in
Chen & Goodman 1999, section 2.3. That its readings are near those of a retrained model is measured in docs/log.md.

Shape legend: V vocabulary, T tokens of one example.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from jaxtyping import Float

from palimpsest.control.readings import Reading, RowReading, row_reading
from palimpsest.data.encode.batch import TextSet, TokenSequence

ORDER = 6
LEAST_P = 1e-12

Tokens = Sequence[int]
Context = tuple[int, ...]


class Shadow:
    """An interpolated n-gram model of token sequences.

    Only what follows the contexts that are asked about is counted, so a large corpus costs time but no memory.
    """

    def __init__(self, corpus: Iterable[Tokens], vocab_size: int, order: int = ORDER) -> None:
        self._corpus = [tuple(tokens) for tokens in corpus]
        self._vocab_size = vocab_size
        self._order = order

    @property
    def is_empty(self) -> bool:
        """Has it nothing to know from?"""
        return not self._corpus

    def read(
        self,
        examples: TextSet,
        base: Callable[[str], Float[np.ndarray, "T V"]] | None = None,
        *,
        eos_ids: frozenset[int] = frozenset(),
    ) -> Reading:
        """What it knows of each example.

        Args:
            examples: token sequences.
            base: gives, by an example's id, the base model's probabilities of the token *after* each of its positions;
                in the place of counts of single tokens.
            eos_ids: tokens that end a generation.
        """
        rows = [examples[i] for i in examples.ids]
        counts = self._followers({c for row in rows for c in self._contexts(row.tokens, row.scored)})
        start_V = _unigrams(counts.get((), Counter()), self._vocab_size)
        bases = (None if base is None else base(row.id) for row in rows)
        return Reading(
            {row.id: self._read_one(row, counts, start_V, own, eos_ids) for row, own in zip(rows, bases, strict=True)}
        )

    def _read_one(
        self,
        row: TokenSequence,
        counts: Mapping[Context, Counter[int]],
        start_V: Float[np.ndarray, "V"],
        base_TV: Float[np.ndarray, "T V"] | None,
        eos_ids: frozenset[int],
    ) -> RowReading:
        places = [t for t, is_scored in enumerate(row.scored) if is_scored]
        said = [self._said(row.tokens, t, counts, start_V if base_TV is None else base_TV[t - 1]) for t in places]
        closed = bool(places) and row.tokens[places[-1]] in eos_ids
        return row_reading([right for right, _ in said], [logp for _, logp in said], ends_with_eos=closed)

    def _contexts(self, tokens: Tokens, scored: Sequence[bool]) -> set[Context]:
        return {
            tuple(tokens[t - k : t])
            for t, is_scored in enumerate(scored)
            if is_scored
            for k in range(min(self._order, t + 1))
        }

    def _followers(self, contexts: set[Context]) -> dict[Context, Counter[int]]:
        """Context -> how often each token follows it in the corpus."""
        found: dict[Context, Counter[int]] = {}
        for tokens in self._corpus:
            for t in range(1, len(tokens)):
                for k in range(min(self._order, t + 1)):
                    context = tokens[t - k : t]
                    if context not in contexts:
                        break  # a longer one ends in it, so whoever asked for that asked for this one too
                    found.setdefault(context, Counter())[tokens[t]] += 1
        return found

    def _said(
        self, tokens: Tokens, t: int, counts: Mapping[Context, Counter[int]], start_V: Float[np.ndarray, "V"]
    ) -> tuple[bool, float]:
        """Is its most likely token at ``t`` the right one, and the log-probability of the right one."""
        target = tokens[t]
        scale, added = 1.0, dict[int, float]()
        for k in range(1, min(self._order, t + 1)):
            followers = counts.get(tuple(tokens[t - k : t]))
            if not followers:
                break
            total = followers.total()
            weight = total / (total + len(followers))
            scale *= 1 - weight
            added = {word: (1 - weight) * p for word, p in added.items()}
            for word, count in followers.items():
                added[word] = added.get(word, 0.0) + weight * count / total
        # Of all that were only scaled the likeliest stays the likeliest; so the arg-max is it or one that was added to.
        candidates = {*added, int(start_V.argmax())}
        p_of = {w: scale * float(start_V[w]) + added.get(w, 0.0) for w in candidates | {target}}
        best = max(candidates, key=lambda w: (p_of[w], -w))
        return best == target, float(np.log(max(LEAST_P, p_of[target])))


def _unigrams(counts: Counter[int], vocab_size: int) -> Float[np.ndarray, "V"]:
    """p_1 over the whole vocabulary: counts of single tokens over the uniform distribution."""
    p_V = np.full(vocab_size, 1 / vocab_size)
    if counts:
        weight = counts.total() / (counts.total() + len(counts))
        p_V *= 1 - weight
        for word, count in counts.items():
            p_V[word] += weight * count / counts.total()
    return p_V
