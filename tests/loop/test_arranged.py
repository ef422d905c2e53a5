"""Batches of one owner, and the surest rows first: against brute force, and with nothing asked the order of before."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palimpsest.loop.arranged import Arranged
from palimpsest.loop.sampler import IdStream

OWNERS = st.dictionaries(st.sampled_from([f"r{n}" for n in range(12)]), st.sampled_from("xyz"), min_size=1)
IDS = tuple(f"r{n}" for n in range(12))


def passes(stream: IdStream, size: int, count: int) -> list[list[list[str]]]:
    """Batches of so many passes."""
    found = []
    for _ in range(count):
        batches = []
        while not stream.exhausted:
            batch, stream = stream.draw(size)
            batches.append(batch)
        found.append(batches)
        stream = stream.restart(stream.ids)
    return found


@given(OWNERS, st.integers(1, 5), st.integers(0, 9))
def test_no_batch_mixes_owners_and_every_row_comes_once(owner, size, seed):
    arranged = Arranged(owner=owner)
    for batches in passes(IdStream("learn", IDS, seed, arranged=arranged), size, 3):
        assert all(len({owner.get(i) for i in batch}) == 1 for batch in batches)
        assert sorted(i for batch in batches for i in batch) == sorted(IDS)
        assert len(batches) == arranged.batches(IDS, size)


@given(st.lists(st.floats(0, 5), min_size=12, max_size=12), st.integers(0, 9))
def test_lower_ranks_come_first_in_every_pass(values, seed):
    rank = dict(zip(IDS, values, strict=True))
    for batches in passes(IdStream("forget", IDS, seed, arranged=Arranged(rank=rank)), 5, 2):
        drawn = [rank[i] for batch in batches for i in batch]
        assert drawn == sorted(values)


def test_with_nothing_asked_the_order_is_that_of_before():
    plain, arranged = (IdStream("learn", IDS, 3, arranged=a) for a in (None, Arranged()))
    assert passes(plain, 5, 3) == passes(arranged, 5, 3)


def test_a_stream_goes_on_where_it_stood():
    beginning = IdStream("learn", IDS, 3, arranged=Arranged(owner={"r1": "x", "r2": "x"}))
    first, stream = beginning.draw(3)
    again = beginning.at(stream.to_json(beginning))
    assert again.draw(3)[0] == stream.draw(3)[0]
    assert first


@pytest.mark.parametrize(("size", "steps"), [(8, 4), (2, 7), (1, 12)])
def test_a_pass_has_as_many_steps_as_its_batches(size, steps):
    """Two rows of x, one of y, nine of nobody."""
    assert Arranged(owner={"r0": "x", "r1": "x", "r2": "y"}).batches(IDS, size) == steps
