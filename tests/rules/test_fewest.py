"""The fewest of a ranked list: against looking at every prefix, where damage has a dip, and where one entry hurts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import pytest

from palimpsest.rules.fewest import MOST_PASSED, fewest_that_reach


class Read(NamedTuple):
    """What is read."""

    reached: bool
    known: float
    used: float


NOTHING = Read(reached=False, known=1.0, used=0.0)


def looks(reached_from: int, hurting: Sequence[int] = (), used: float = 2.0):
    """There once so many are gone; over the budget while any of some entries is among them."""

    def look(gone: Sequence[int]) -> Read:
        return Read(len(gone) >= reached_from, 1 / (1 + len(gone)), used if set(gone) & set(hurting) else 0.5)

    return look


@pytest.mark.parametrize("count", range(1, 21))
def test_it_is_the_shortest_prefix_that_is_there(count):
    found = fewest_that_reach(looks(count), range(20), NOTHING)
    assert found.entries == tuple(range(count))
    assert (found.seen.reached, found.seen.used) == (True, 0.5)
    assert not found.passed_over


def test_more_that_hurts_less_is_found():
    def look(gone: Sequence[int]) -> Read:
        return Read(len(gone) >= 6, 0.5, 3.0 if 4 <= len(gone) < 14 else 0.1)

    assert len(fewest_that_reach(look, range(20), NOTHING).entries) == 14


def test_what_hurts_too_much_is_passed_over():
    found = fewest_that_reach(looks(6, hurting=(2, 5)), range(12), NOTHING)
    assert found.entries == (0, 1, 3, 4, 6, 7)
    assert found.passed_over == (2, 5)
    assert found.seen.reached


def test_it_ends_short_with_all_that_may_go():
    found = fewest_that_reach(looks(99, hurting=(1,)), range(6), NOTHING)
    assert found.entries == (0, 2, 3, 4, 5)
    assert (found.seen.reached, found.seen.used) == (False, 0.5)


def test_it_passes_over_so_many_and_no_more():
    asked = []

    def look(gone: Sequence[int]) -> Read:
        asked.append(tuple(gone))
        return Read(reached=False, known=0.0, used=2.0)

    found = fewest_that_reach(look, range(40), NOTHING)
    assert (found.entries, found.seen, len(found.passed_over)) == ((), NOTHING, MOST_PASSED)
    assert len(asked) < 40


def test_short_of_the_level_the_least_known_is_taken():
    def look(gone: Sequence[int]) -> Read:
        return Read(False, 0.2 if len(gone) == 8 else 0.9, 2.0 if len(gone) == 4 else 0.5)

    found = fewest_that_reach(look, range(10), NOTHING)
    assert found.entries == tuple(range(8))
    assert found.seen.known == 0.2


@pytest.mark.parametrize("hurting", [(), (2, 5), range(3, 30)])
def test_nothing_is_read_twice(hurting):
    asked = []

    def look(gone: Sequence[int]) -> Read:
        asked.append(tuple(gone))
        return looks(7, hurting)(gone)

    fewest_that_reach(look, range(40), NOTHING)
    assert len(asked) == len(set(asked))
    assert () not in asked
