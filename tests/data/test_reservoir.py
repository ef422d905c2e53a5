"""Random pairing against its text, against the specification's simulation and against counting subsets."""

from __future__ import annotations

from collections import Counter
from itertools import combinations
from math import sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palimpsest.data.draws import random_words
from palimpsest.data.memory.reservoir import RandomPairing
from palimpsest.errors import DataError, PlanError


class Oracle:
    """The same rules on plain lists, one record and one word at a time."""

    def __init__(self, capacity: int, seed: int) -> None:
        self.capacity, self.seed = capacity, seed
        self.live: list[str] = []
        self.sample: list[str] = []
        self.c1 = self.c2 = self.used = 0

    def uniform(self, bound: int) -> int:
        word = random_words(self.seed, "replay", self.used, 1)[0]
        self.used += 1
        return int(word * bound // 2**64)

    def insert(self, x: str) -> None:
        self.live.append(x)
        if self.c1 + self.c2 > 0:
            if self.uniform(self.c1 + self.c2) < self.c1:
                self.sample.append(x)
                self.c1 -= 1
            else:
                self.c2 -= 1
        elif len(self.live) <= self.capacity:
            self.sample.append(x)
        else:
            place = self.uniform(len(self.live))
            if place < self.capacity:
                self.sample[place] = x

    def delete(self, x: str) -> None:
        self.live.remove(x)
        if x in self.sample:
            self.sample.remove(x)
            self.c1 += 1
        else:
            self.c2 += 1


def insert_new(pairing: RandomPairing, names: range) -> None:
    pairing.insert([str(i) for i in names])


def delete_these(pairing: RandomPairing, names: range) -> None:
    inside = {str(i) for i in names}.intersection(pairing.slots)
    pairing.delete(inside, len(names) - len(inside))


# Positive: that many insertions; negative: that many deletions of random live records.
histories = st.lists(st.integers(-6, 9).filter(bool), max_size=12)


@given(histories, st.integers(1, 6), st.integers(0, 3), st.randoms(use_true_random=False))
def test_any_history_equals_the_rules_word_for_word(steps, capacity, seed, draw) -> None:
    pairing, oracle, made = RandomPairing(capacity, seed), Oracle(capacity, seed), 0
    for step in steps:
        if step > 0:
            new = [f"x{made + i}" for i in range(step)]
            made += step
            pairing.insert(new)
            for x in new:
                oracle.insert(x)
        else:
            doomed = draw.sample(oracle.live, min(-step, len(oracle.live)))
            inside = set(doomed).intersection(pairing.slots)
            pairing.delete(inside, len(doomed) - len(inside))
            for x in doomed:
                oracle.delete(x)
        assert pairing.slots == oracle.sample
        assert (pairing.n, pairing.c1, pairing.c2) == (len(oracle.live), oracle.c1, oracle.c2)
        assert pairing.draws == oracle.used
        assert len(pairing.slots) + pairing.c1 == min(capacity, pairing.n + pairing.c1 + pairing.c2)


@pytest.mark.slow
def test_inclusion_is_uniform_after_deletions() -> None:
    # The specification's numbers: M = 8, 40 inserted, 15 deleted, 30 inserted, so that 8 of 55 stay.
    runs, share = 5000, 8 / 55
    times: Counter[str] = Counter()
    for seed in range(runs):
        pairing = RandomPairing(8, seed)
        insert_new(pairing, range(40))
        delete_these(pairing, range(10, 25))
        insert_new(pairing, range(40, 70))
        assert (len(pairing.slots), pairing.c1, pairing.c2) == (8, 0, 0)
        times.update(pairing.slots)
    assert not {str(i) for i in range(10, 25)} & times.keys()
    live = [*range(10), *range(25, 70)]
    error = sqrt(runs * share * (1 - share))
    assert max(abs(times[str(i)] - runs * share) for i in live) < 4 * error
    # Old and new records apart: a bias towards either hides in single counts, not in these sums.
    for group in (live[:25], live[25:40], live[40:]):
        assert abs(sum(times[str(i)] for i in group) - runs * share * len(group)) < 4 * error * sqrt(len(group))


def test_all_subsets_of_a_size_are_equally_likely() -> None:
    # M = 2, 4 inserted, 2 deleted, 1 inserted: one deletion is not made up for, and 3 records live.
    runs = 6000
    times: Counter[tuple[str, ...]] = Counter()
    for seed in range(runs):
        pairing = RandomPairing(2, seed)
        insert_new(pairing, range(4))
        delete_these(pairing, range(1, 3))
        insert_new(pairing, range(4, 5))
        times[tuple(sorted(pairing.slots))] += 1
    for size in range(3):
        subsets = list(combinations("034", size))
        total = sum(times[subset] for subset in subsets)
        share = 1 / len(subsets)
        for subset in subsets:
            assert abs(times[subset] - total * share) <= 4 * sqrt(total * share * (1 - share))
    # By hand: both deleted were inside (1/6), and one slot is filled; or one was (4/6), and half of the time it is not.
    assert abs(sum(times[(i,)] for i in "034") - runs * (1 / 6 + 4 / 6 / 2)) < 4 * sqrt(runs / 4)
    assert () not in times


def test_values_that_are_no_sample_are_refused() -> None:
    with pytest.raises(PlanError, match="a replay buffer of 0 records; accepted: a capacity of 1 or more"):
        RandomPairing(0, 0)
    for wrong in (
        {"n": 1},  # a record is missing
        {"n": 2, "slots": ["a", "a"]},
        {"n": 3, "c1": 1, "c2": -1, "slots": ["a", "b"]},
        {"n": 5, "c1": 1, "slots": ["a", "b", "c"]},
    ):
        with pytest.raises(DataError, match="are no sample of 3; accepted: values that a buffer saved"):
            RandomPairing(3, 0, **wrong)
