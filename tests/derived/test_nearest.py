from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from palimpsest.data.encode.batch import TextSet, TokenSequence
from palimpsest.data.memory.neighbours import Backend
from palimpsest.derived.nearest import overlap, pair, random_pairs
from palimpsest.errors import DataError


def text_set(**tokens: Sequence[int]) -> TextSet:
    rows = [TokenSequence(i, tuple(t), (False, *[True] * (len(t) - 1))) for i, t in tokens.items()]
    return TextSet(rows, pad_id=0)


tokens = st.lists(st.integers(0, 2), max_size=12)


@given(tokens, tokens, st.integers(1, 4))
def test_overlap_equals_a_loop(a: list[int], b: list[int], n: int) -> None:
    count = hits = 0
    for i in range(len(a) - n + 1):
        count += 1
        hits += any(a[i : i + n] == b[j : j + n] for j in range(len(b) - n + 1))
    expected = hits / count if count else float(a == b)
    assert overlap(a, b, n) == expected


def test_overlap_of_short_texts_and_its_direction() -> None:
    long = list(range(20))
    assert overlap(long, long) == 1.0
    assert overlap(long[:5], long[:5]) == 1.0
    assert overlap(long[:5], long) == 0.0
    assert overlap(long[:10], long) == 1.0
    assert overlap(long, long[:10]) == 1 / 11


FORGET = text_set(f=range(30))
NEAR_COPY, HALF, FAR = [*range(29), 99], [*range(20), *range(50, 60)], range(100, 130)


def line(*positions: float) -> torch.Tensor:
    return torch.tensor([[p, 0.0] for p in positions])


@pytest.mark.parametrize("backend", ["torch", "faiss"])
def test_near_copies_are_passed_over(backend: Backend) -> None:
    if backend == "faiss":
        pytest.importorskip("faiss")
    pool = text_set(copy=range(30), near=NEAR_COPY, half=HALF, far=FAR, farther=FAR)
    vectors = line(1, 2, 3, 4, 5)
    pairs = pair(FORGET, pool, line(0), vectors, backend=backend)
    assert (pairs.partner, pairs.rank, pairs.distance) == ({"f": "far"}, {"f": 4}, {"f": 4.0})
    assert pairs.overlap == {"f": 0.0}
    assert pairs.duplicates == 0
    assert pairs.stats["share_near_copies"] == pairs.stats["share_identical"] == 0.0
    # k = 1: the ranking is followed beyond the k nearest
    assert pair(FORGET, pool, line(0), vectors, k=1, backend=backend).partner == {"f": "far"}


def test_faithful_mode_takes_the_nearest_whatever_it_is() -> None:
    pool = text_set(far=FAR, copy=range(30), near=NEAR_COPY)
    pairs = pair(FORGET, pool, line(0), line(9, 1, 2), dedup=False)
    assert (pairs.partner, pairs.rank, pairs.duplicates) == ({"f": "copy"}, {"f": 1}, 0)
    assert pairs.identical == {"f"}
    assert pairs.stats == {
        "pairs": 1,
        "distinct_partners": 1,
        "share_near_copies": 1.0,
        "share_identical": 1.0,
        "mean_overlap": 1.0,
        "duplicates": 0,
    }


def test_if_all_are_copies_the_least_overlapping_is_taken_and_counted() -> None:
    pool = text_set(near=NEAR_COPY, copy=range(30), half=HALF, half_too=HALF)
    pairs = pair(FORGET, pool, line(0), line(1, 2, 4, 3), k=2)
    assert pairs.partner == {"f": "half_too"}  # of the two equals, the nearer one
    assert pairs.rank == {"f": 3}
    assert pairs.duplicates == pairs.stats["duplicates"] == 1
    assert pairs.overlap["f"] == pytest.approx(11 / 21)
    loose = pair(FORGET, pool, line(0), line(1, 2, 4, 3), k=2, max_overlap=0.6)
    assert (loose.partner, loose.duplicates) == ({"f": "half_too"}, 0)


@pytest.mark.parametrize("dedup", [True, False])
def test_pairs_equal_brute_force_and_do_not_depend_on_the_backend(dedup: bool) -> None:
    pytest.importorskip("faiss")
    draw = torch.Generator().manual_seed(3)
    rows = torch.randint(0, 3, (60, 14), generator=draw).tolist()
    forget = text_set(**{f"f{i}": rows[i] for i in range(8)})
    pool = text_set(**{f"p{i}": rows[i % 9] if i % 4 else rows[i] for i in range(60)})
    vectors = torch.randint(0, 4, (68, 3), generator=draw).float()  # small integers, so that ties abound
    found = [pair(forget, pool, vectors[:8], vectors[8:], k=3, dedup=dedup, backend=b) for b in ("torch", "faiss")]
    assert found[0] == found[1]
    for f in range(8):
        ranking = sorted(range(60), key=lambda p, f=f: (float((vectors[f] - vectors[8 + p]).square().sum()), p))
        shares = [overlap(rows[f], pool[f"p{p}"].tokens) for p in ranking]
        fitting = [p for p, share in zip(ranking, shares, strict=True) if share < 0.1]
        expected = ranking[0] if not dedup else fitting[0] if fitting else ranking[shares.index(min(shares))]
        assert found[0].partner[f"f{f}"] == f"p{expected}"


def test_random_pairs_depend_on_the_seed_alone() -> None:
    forget = text_set(**{f"f{i}": range(12) for i in range(6)})
    pool = text_set(**{f"p{i}": range(i, i + 12) for i in range(40)})
    pairs = random_pairs(forget, pool, seed=1)
    assert pairs.partner == random_pairs(forget, pool, seed=1).partner
    assert pairs.partner != random_pairs(forget, pool, seed=2).partner
    assert tuple(pairs.partner) == forget.ids
    assert len(set(pairs.partner.values())) == 6
    assert all(pairs.overlap[f] == overlap(range(12), pool[p].tokens) for f, p in pairs.partner.items())
    few = text_set(p=range(12), q=range(12))
    assert set(random_pairs(forget, few, seed=0).partner.values()) <= {"p", "q"}


def test_wrong_sets_are_refused() -> None:
    pool = text_set(p=FAR)
    with pytest.raises(DataError, match="the retain side is empty"):
        pair(FORGET, text_set(), line(0), torch.zeros(0, 2))
    with pytest.raises(DataError, match="the forget set is empty"):
        random_pairs(text_set(), pool, seed=0)
    with pytest.raises(DataError, match=r"1 forget examples are in the retain side too \(first: 'f'\)"):
        pair(FORGET, text_set(p=FAR, f=FAR), line(0), line(1, 2))
    with pytest.raises(DataError, match="1 forget examples and 2 vectors"):
        pair(FORGET, pool, line(0, 1), line(1))
    with pytest.raises(DataError, match="1 ids and vectors of shape"):
        pair(FORGET, pool, line(0), line(1, 2))
