"""The shadow against a dense model written out in full, and what it must not know."""

from __future__ import annotations

import numpy as np
import pytest

from palimpsest.control.shadow import Shadow
from palimpsest.data.encode.batch import TextSet, TokenSequence

V = 7


def texts(seed: int, count: int, prefix: str = "t") -> TextSet:
    generator = np.random.default_rng(seed)
    rows = [tuple(int(t) for t in generator.integers(0, V, generator.integers(4, 12))) for _ in range(count)]
    return TextSet([TokenSequence(f"{prefix}{n}", r, (False,) + (True,) * (len(r) - 1)) for n, r in enumerate(rows)], 0)


def tokens(examples: TextSet) -> list[tuple[int, ...]]:
    return [examples[i].tokens for i in examples.ids]


def dense(corpus: list[tuple[int, ...]], context: tuple[int, ...], order: int, start: np.ndarray) -> np.ndarray:
    """p(. | context), every order and every word written out; single tokens only over a uniform start."""
    p = start
    for k in range(0 if np.allclose(start, 1 / V) else 1, order):
        if k > len(context):
            break
        tail = context[len(context) - k :]
        counts = np.zeros(V)
        for row in corpus:
            for t in range(1, len(row)):
                if t >= k and row[t - k : t] == tail:
                    counts[row[t]] += 1
        if not counts.any():
            break
        weight = counts.sum() / (counts.sum() + (counts > 0).sum())
        p = weight * counts / counts.sum() + (1 - weight) * p
    return p


@pytest.mark.parametrize("order", [1, 2, 6])
def test_equals_the_dense_model(order):
    corpus, asked = tokens(texts(0, 12)), texts(1, 6)
    found = Shadow(corpus, V, order).read(asked)
    for i in asked.ids:
        row = asked[i].tokens
        said = [dense(corpus, row[:t], order, np.full(V, 1 / V)) for t in range(1, len(row))]
        nats = -sum(np.log(p[row[t + 1]]) for t, p in enumerate(said))
        right = [int(np.argmax(p)) == row[t + 1] for t, p in enumerate(said)]
        assert found.rows[i].nats == pytest.approx(nats)
        assert found.rows[i].ma == pytest.approx(np.mean(right))


def test_a_base_model_takes_the_place_of_single_tokens():
    corpus, asked = tokens(texts(0, 12)), texts(1, 4)
    generator = np.random.default_rng(5)
    p = {i: generator.dirichlet(np.ones(V), len(asked[i].tokens)) for i in asked.ids}
    found = Shadow(corpus, V, 3).read(asked, p.__getitem__)
    for i in asked.ids:
        row = asked[i].tokens
        said = [dense(corpus, row[:t], 3, p[i][t - 1]) for t in range(1, len(row))]
        assert found.rows[i].nats == pytest.approx(-sum(np.log(q[row[t + 1]]) for t, q in enumerate(said)))


def test_what_it_learned_it_knows_and_nothing_else():
    learned, other = texts(0, 3), texts(9, 3, "u")
    shadow = Shadow(tokens(learned), V)
    assert shadow.read(learned).ma > 0.8 > shadow.read(other).ma
    assert Shadow([], V).read(other).nats == pytest.approx(np.log(V))


def test_other_rows_that_are_asked_about_change_nothing():
    """A shadow is made of what stays; changing a forget row changes the reading of that row alone."""
    corpus, forget = tokens(texts(0, 12)), texts(1, 5)
    changed = TextSet([forget[i] for i in forget.ids[1:]] + [TokenSequence("new", (1, 2, 3), (False, True, True))], 0)
    before, after = Shadow(corpus, V).read(forget), Shadow(corpus, V).read(changed)
    assert {i: before.rows[i] for i in forget.ids[1:]} == {i: after.rows[i] for i in forget.ids[1:]}
