from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from palimpsest.metrics.greedy.chains import Chains, Texts, can_still_match, find_chains


def texts(tokens, argmax, first=1, n=1):
    tokens_BT, argmax_BT = torch.tensor([tokens]), torch.tensor([argmax])
    return Texts(tokens_BT, torch.tensor([len(tokens)]), argmax_BT, torch.tensor([first]), n)


def as_tuples(chains):
    return list(zip(chains.row_C.tolist(), chains.first_C.tolist(), chains.end_C.tolist(), strict=True))


def test_chains_end_where_the_argmax_is_wrong():
    found = find_chains(texts([5, 6, 7, 8, 9, 4], [-1, 6, 0, 8, 0, 4]), torch.tensor([], dtype=torch.long))
    assert as_tuples(found) == [(0, 1, 2), (0, 3, 4)]


@pytest.mark.parametrize(("argmax_at_eos", "first_after"), [(7, 3), (0, 3)])
def test_chains_end_at_an_eos_also_where_it_is_right(argmax_at_eos, first_after):
    found = find_chains(texts([5, 6, 7, 8, 9], [-1, 6, argmax_at_eos, 8, 0]), torch.tensor([7]))
    assert as_tuples(found) == [(0, 1, 2), (0, first_after, 4)]


def test_prefixes_before_the_first_one_and_behind_the_last_ngram_are_left_out():
    found = find_chains(
        texts([5, 6, 7, 8, 9, 4], [-1, 0, 0, 0, 0, 0], first=2, n=3), torch.tensor([], dtype=torch.long)
    )
    assert as_tuples(found) == [(0, 2, 2), (0, 3, 3)]


def test_rows_are_ordered_by_end():
    tokens = torch.tensor([[1, 2, 3, 4], [1, 2, 3, 4]])
    argmax = torch.tensor([[-1, 2, 3, 0], [-1, 0, 3, 0]])
    found = find_chains(
        Texts(tokens, torch.tensor([4, 4]), argmax, torch.tensor([1, 1]), 1), torch.tensor([], dtype=torch.long)
    )
    assert as_tuples(found) == [(1, 1, 1), (0, 1, 3), (1, 2, 3)]


def _count(text, tokens, n, prefix):
    windows = [tokens[s : s + n] for s in range(prefix, len(text) - n + 1)]
    reference = [text[s : s + n] for s in range(prefix, len(text) - n + 1)]
    return sum(window in reference for window in windows)


@settings(max_examples=200)
@given(st.data())
def test_a_hopeless_chain_counts_the_same_however_it_goes_on(data):
    small = st.integers(0, 2)
    length = data.draw(st.integers(4, 8))
    n = data.draw(st.integers(1, 3))
    text = data.draw(st.lists(small, min_size=length, max_size=length))
    first = data.draw(st.integers(1, length - n))
    end = data.draw(st.integers(first, length - 1))
    position = data.draw(st.integers(end, length - 1))
    known = text[:end] + data.draw(st.lists(small, min_size=position + 1 - end, max_size=position + 1 - end))
    rest = st.lists(st.integers(0, 3), min_size=length - position - 1, max_size=length - position - 1)
    chains = Chains(torch.tensor([0]), torch.tensor([end]), torch.tensor([first]))
    padded = torch.tensor([known + [-1] * (length - len(known))])
    if not can_still_match(texts(text, text, first, n), chains, padded, position)[0]:
        one, other = known + data.draw(rest), known + data.draw(rest)
        for prefix in range(first, min(end, length - n) + 1):
            assert _count(text, one, n, prefix) == _count(text, other, n, prefix)


def test_hopeless_chains_are_found():
    """n = 2, x = 1 2 3 4: the last n-gram starts at 2; a 9 there occurs nowhere, a 3 does."""
    tokens = torch.tensor([[1, 2, 9, -1], [1, 2, 3, -1], [1, 8, -1, -1]])
    chains = Chains(torch.tensor([0, 0, 0]), torch.tensor([2, 2, 1]), torch.tensor([1, 1, 1]))
    batch = texts([1, 2, 3, 4], [0] * 4, n=2)
    assert can_still_match(batch, chains, tokens, 2).tolist()[:2] == [False, True]
    assert can_still_match(batch, chains, tokens, 1).tolist() == [True, True, True]
