from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from palimpsest.data.draws import below, random_words, shuffled


def test_the_bits_do_not_change_between_releases() -> None:
    # Saved runs, streams and buffers go on only if a seed means tomorrow what it means today.
    assert shuffled("abcdef", 0, "retain", 0) == [*"bfdcea"]
    assert shuffled("abcdef", 0, "retain", 1) == [*"ebcdaf"]
    assert random_words(0, "replay", 3, 2) == [7324954648679292519, 546796490196604099]


@given(st.integers(0, 40), st.integers(0, 40))
def test_words_are_one_sequence_wherever_it_is_entered(start: int, count: int) -> None:
    one_by_one = [random_words(7, "replay", position, 1)[0] for position in range(start, start + count)]
    assert random_words(7, "replay", start, count) == one_by_one


def test_seeds_and_names_have_words_of_their_own() -> None:
    drawn = [random_words(seed, name, 0, 50) for seed in (0, 1) for name in ("replay", "other")]
    assert len({word for sequence in drawn for word in sequence}) == 200


def test_below_covers_its_range_evenly() -> None:
    assert [below(3, word) for word in (0, 2**64 // 3, 2**64 // 3 + 1, 2**64 - 1)] == [0, 0, 1, 2]
    counts = np.bincount([below(5, word) for word in random_words(0, "replay", 0, 20_000)], minlength=5)
    # Standard error of each count: sqrt(20000 * 0.2 * 0.8) = 57.
    assert np.abs(counts - 4000).max() < 4 * 57
