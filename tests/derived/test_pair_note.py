"""The note on pairs a sentence."""

from __future__ import annotations

from palimpsest.derived.nearest import pair_note


def test_pairs_in_words() -> None:
    stats = {
        "pairs": 18, "distinct_partners": 17, "share_near_copies": 2 / 18, "share_identical": 1 / 18,
        "mean_overlap": 0.0372, "duplicates": 1,
    }  # fmt: skip
    assert pair_note(stats) == (
        "18 pairs with 17 different partners of what stays; they share 0.04 of their 10-grams on average; 2 of them "
        "are nearly copies; 1 of them is the same text; for 1 example nothing but near-copies was there."
    )
