"""MASC's stop: gaps position by position in loops, which examples go on, and a run that ends on it."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch

from palimpsest.audit.gap_stop import GapTest, logit_gaps
from palimpsest.audit.refinement import Refinement
from palimpsest.data.encode.batch import TextSet, TokenSequence

V = 5


class Says(torch.nn.Module):
    """Logits by the position and the token there alone."""

    def __init__(self) -> None:
        super().__init__()
        self.table_VV = torch.nn.Parameter(torch.randn(V, V, generator=torch.Generator().manual_seed(3)))

    def forward(self, input_ids, attention_mask, use_cache):
        assert not self.training
        return SimpleNamespace(logits=self.table_VV[input_ids])


def rows() -> TextSet:
    """Of lengths 3 to 13, so that batches are padded; the first label is not always the second token."""
    texts = []
    for n in range(11):
        tokens = tuple((n * k + k * k + 1) % V for k in range(3 + n))
        first = 1 + n % 2
        texts.append(TokenSequence(f"r{n}", tokens, tuple(k >= first for k in range(len(tokens)))))
    return TextSet(texts, pad_id=0)


def by_loops(model: Says, row: TokenSequence, gap: float) -> float:
    """Share of the label tokens that no other token is more than a gap behind."""
    closed = []
    for t in range(1, len(row.tokens)):
        if row.scored[t]:
            z = model.table_VV[row.tokens[t - 1]].tolist()
            best = -math.inf
            for j in range(V):
                if j != row.tokens[t] and z[j] > best:
                    best = z[j]
            closed.append(z[row.tokens[t]] - best <= gap)
    return sum(closed) / len(closed)


@pytest.mark.parametrize("gap", [-0.5, 0.0, 1.0])
@pytest.mark.parametrize("closed", [0.4, 0.75, 1.0])
def test_those_go_on_that_a_loop_finds_open(gap, closed):
    model, forget = Says().train(), rows()
    expected = {i: by_loops(model, forget[i], gap) for i in forget.ids}
    check = GapTest(forget, Refinement(test="gap", gap=gap, closed=closed)).check(model, 0)
    assert check.active == tuple(i for i in forget.ids if expected[i] < closed)
    assert check.scores == {"forget.closed": pytest.approx(sum(expected.values()) / len(expected))}
    assert model.training


def test_a_gap_of_zero_is_a_wrong_choice_and_ties_are_closed():
    logits_SV = torch.randn(200, 7, generator=torch.Generator().manual_seed(1))
    target_S = torch.arange(200) % 7
    assert torch.equal(logit_gaps(logits_SV, target_S) <= 0, logits_SV.argmax(1) != target_S)
    assert logit_gaps(torch.tensor([[2.0, 2.0]]), torch.tensor([0])).tolist() == [0.0]


def test_enough_of_the_examples_end_a_run():
    model, forget = Says(), rows()
    shares = sorted(by_loops(model, forget[i], 0.0) for i in forget.ids)
    loose = Refinement(test="gap", closed=max(0.01, shares[3]), share=0.5)
    assert GapTest(forget, loose).check(model, 0).satisfied
    assert GapTest(forget, Refinement(test="gap", closed=1.0)).check(model, 0).satisfied is None


def test_it_is_not_the_default():
    assert Refinement().test == "extraction"
