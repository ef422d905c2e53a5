"""The analogous set: for each forget example the one of the retain side that is most like it.

Source: ICU, Tang, Liu et al., arXiv:2407.20271: nearest neighbour (K = 1) by the embedding of the last 100 tokens.

Why near-copies are left out (``dedup``): in the paper's own data 63 to 72 of the 128 nearest neighbours share more
than half of their 10-grams with the forget text, and 20 to 27 of them are identical in the last 100 tokens. Learning
such a neighbour teaches again exactly what the ascent on the forget example unteaches. ``dedup=False`` takes the
nearest neighbour whatever it is, as the paper does.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from jaxtyping import Float
from torch import Tensor

from palimpsest.data.encode.batch import TextSet
from palimpsest.data.memory.neighbours import Backend, NeighbourIndex
from palimpsest.errors import DataError
from palimpsest.in_words import show, so_many

Overlap = Callable[[str, str], float]

NEAR_COPY = 0.5  # share of common 10-grams above which a pair counts as a near-copy in the statistics


def overlap(a: Sequence[int], b: Sequence[int], n: int = 10) -> float:
    """Share of the n-grams of a, repetitions counted, that occur in b.

    Args:
        a: token ids of the forget text.
        b: token ids of its neighbour.
        n: tokens per n-gram, >= 1.

    Returns:
        0 to 1; if a has no n-gram, 1 when a equals b and 0 otherwise.

    >>> overlap([1, 2, 3, 4], [9, 1, 2, 3], n=3)
    0.5
    """
    grams = _ngrams(a, n)
    if not grams:
        return float(tuple(a) == tuple(b))
    present = frozenset(_ngrams(b, n))
    return sum(gram in present for gram in grams) / len(grams)


@dataclass(frozen=True)
class Pairs:
    """Which example of the pool stands beside which forget example.

    Attributes:
        partner: forget id -> pool id; pool ids may repeat.
        overlap: forget id -> share of its 10-grams that occur in its partner.
        rank: forget id -> place of the partner among its neighbours, nearest = 1; empty for random pairs.
        distance: forget id -> Euclidean distance of the two embeddings; empty for random pairs.
        identical: forget ids whose partner has the same tokens.
        duplicates: forget examples for which the whole pool holds nothing but near-copies, so that the least
            overlapping one was taken; 0 without dedup.
    """

    partner: Mapping[str, str]
    overlap: Mapping[str, float]
    rank: Mapping[str, int]
    distance: Mapping[str, float]
    identical: frozenset[str]
    duplicates: int

    def __len__(self) -> int:
        return len(self.partner)

    @cached_property
    def stats(self) -> dict[str, float]:
        """For the report: how many pairs, how many of them near-copies or identical, how far they overlap."""
        pairs = len(self)
        return {
            "pairs": pairs,
            "distinct_partners": len(set(self.partner.values())),
            "share_near_copies": sum(value > NEAR_COPY for value in self.overlap.values()) / pairs,
            "share_identical": len(self.identical) / pairs,
            "mean_overlap": sum(self.overlap.values()) / pairs,
            "duplicates": self.duplicates,
        }


def pair(
    forget: TextSet,
    pool: TextSet,
    forget_vectors: Float[Tensor, "F D"],
    pool_vectors: Float[Tensor, "N D"],
    *,
    k: int = 10,
    dedup: bool = True,
    max_overlap: float = 0.1,
    backend: Backend = "auto",
) -> Pairs:
    """Give each forget example its nearest neighbour of the pool that is not a near-copy of it.

    Args:
        forget: F examples.
        pool: N examples of the retain side; no id in common with ``forget``.
        forget_vectors: embeddings of the forget examples, in their order.
        pool_vectors: embeddings of the pool, in its order.
        k: neighbours looked at first; the ranking is followed further only when none of them qualifies.
        dedup: leave near-copies out; False is the paper's choice.
        max_overlap: a neighbour qualifies when it shares less than this share of the forget example's 10-grams.
        backend: of the neighbour search; the result is the same.

    Returns:
        Pairs for all forget examples, in their order. Equal distances: the first of the pool.

    Raises:
        DataError: the pool is empty or holds a forget example, or sets and vectors do not match.
    """
    _check(forget, pool)
    if len(forget) != len(forget_vectors):
        raise DataError(f"{len(forget)} forget examples and {len(forget_vectors)} vectors; accepted: one each")
    index = NeighbourIndex(pool.ids, pool_vectors, backend=backend)
    compare = _comparison(forget, pool)
    choices = {}
    for forget_id, vector_D in zip(forget.ids, forget_vectors, strict=True):
        ranking = _ranking(index, vector_D, k)
        choices[forget_id] = (
            _first_distinct(forget_id, ranking, compare, max_overlap) if dedup else (*next(ranking), True)
        )
    return _pairs(
        forget,
        pool,
        {forget_id: choice[1] for forget_id, choice in choices.items()},
        rank={forget_id: choice[0] for forget_id, choice in choices.items()},
        distance={forget_id: choice[2] for forget_id, choice in choices.items()},
        duplicates=sum(not choice[3] for choice in choices.values()),
    )


def random_pairs(forget: TextSet, pool: TextSet, *, seed: int) -> Pairs:
    """Pair at random, for the ablation: what is the nearest neighbour worth?

    Args:
        forget: F examples.
        pool: N examples; each is used once when N >= F, otherwise drawn with repetition.
        seed: of the draw.

    Raises:
        DataError: the pool is empty or holds a forget example.
    """
    _check(forget, pool)
    draw = random.Random(seed)  # noqa: S311  an experiment's draw, not a secret
    enough = len(pool) >= len(forget)
    drawn = draw.sample(pool.ids, len(forget)) if enough else draw.choices(pool.ids, k=len(forget))
    return _pairs(forget, pool, dict(zip(forget.ids, drawn, strict=True)), rank={}, distance={}, duplicates=0)


def pair_note(stats: Mapping[str, float]) -> str:
    """How forget examples were paired, from ``Pairs.stats``.

    >>> pair_note({"pairs": 18, "distinct_partners": 17, "share_near_copies": 0, "mean_overlap": 0.037})
    '18 pairs with 17 different partners of what stays; they share 0.04 of their 10-grams on average.'
    """
    partners = so_many(int(stats["distinct_partners"]), "different partner")
    said = f"{so_many(int(stats['pairs']), 'pair')} with {partners} of what stays; "
    said += f"they share {show(stats['mean_overlap'])} of their 10-grams on average"
    for key, what in (("share_near_copies", "nearly copies"), ("share_identical", "the same text")):
        if found := round(stats.get(key, 0) * stats["pairs"]):
            said += f"; {found} of them {'is' if found == 1 else 'are'} {what}"
    if stats.get("duplicates"):
        said += f"; for {so_many(int(stats['duplicates']), 'example')} nothing but near-copies was there"
    return f"{said}."


def _ngrams(tokens: Sequence[int], n: int) -> list[tuple[int, ...]]:
    return [tuple(tokens[start : start + n]) for start in range(len(tokens) - n + 1)]


def _check(forget: TextSet, pool: TextSet) -> None:
    if not len(forget) or not len(pool):
        empty = "forget set" if not len(forget) else "retain side"
        raise DataError(f"the {empty} is empty, so nothing can be paired; accepted: at least one example in each")
    shared = sorted(set(forget.ids) & set(pool.ids))
    if shared:
        problem = f"{len(shared)} forget examples are in the retain side too (first: {shared[0]!r})"
        raise DataError(f"{problem}; remove them from it")


def _comparison(forget: TextSet, pool: TextSet) -> Overlap:
    def compare(forget_id: str, pool_id: str) -> float:
        return overlap(forget[forget_id].tokens, pool[pool_id].tokens)

    return compare


def _ranking(index: NeighbourIndex, vector_D: Float[Tensor, "D"], k: int) -> Iterator[tuple[int, str, float]]:
    """(rank, pool id, distance), nearest first, over the whole pool; fetched in growing pieces."""
    done = 0
    while done < len(index):
        found = index.search(vector_D[None], max(k, 4 * done))[0]
        for rank, (pool_id, distance) in enumerate(found[done:], done + 1):
            yield rank, pool_id, distance
        done = len(found)


def _first_distinct(
    forget_id: str, ranking: Iterator[tuple[int, str, float]], compare: Overlap, max_overlap: float
) -> tuple[int, str, float, bool]:
    """The nearest that shares little; failing that the one that shares least, marked False."""
    least: tuple[float, int, str, float] | None = None
    for rank, pool_id, distance in ranking:
        share = compare(forget_id, pool_id)
        if share < max_overlap:
            return rank, pool_id, distance, True
        candidate = (share, rank, pool_id, distance)
        least = candidate if least is None else min(least, candidate)
    if least is None:
        raise ValueError("the ranking of a pool that is not empty has entries")
    return *least[1:], False


def _pairs(
    forget: TextSet,
    pool: TextSet,
    partner: Mapping[str, str],
    *,
    rank: Mapping[str, int],
    distance: Mapping[str, float],
    duplicates: int,
) -> Pairs:
    compare = _comparison(forget, pool)
    shares = {forget_id: compare(forget_id, pool_id) for forget_id, pool_id in partner.items()}
    same = frozenset(f for f, p in partner.items() if forget[f].tokens == pool[p].tokens)
    return Pairs(partner, shares, rank, distance, same, duplicates)
