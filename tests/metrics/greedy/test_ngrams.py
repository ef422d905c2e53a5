from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from palimpsest.metrics.greedy.ngrams import last_starts

tokens = st.integers(0, 3)


@given(st.lists(tokens, min_size=8, max_size=14), st.data(), st.integers(1, 8))
def test_equals_a_plain_search(text, data, n):
    others = data.draw(st.lists(st.lists(tokens | st.just(-1), min_size=len(text), max_size=len(text)), max_size=3))
    others_CT = np.array(others, dtype=int).reshape(len(others), len(text))
    found = last_starts(np.array(text), others_CT, n)
    starts = range(len(text) - n + 1)
    expected = [
        [max((q for q in starts if text[q : q + n] == row[s : s + n]), default=-1) for s in starts] for row in others
    ]
    assert found.tolist() == expected


def test_large_token_ids():
    assert last_starts(np.array([50_000, 7, 50_000]), np.array([[7, 50_000, 99_999]]), 2).tolist() == [[1, -1]]
