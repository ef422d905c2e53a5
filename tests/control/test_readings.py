"""Readings are the metrics', whatever the batches."""

from __future__ import annotations

import pytest

from palimpsest.control import readings
from palimpsest.control.readings import read, row_reading
from palimpsest.data.encode.batch import TextSet, TokenSequence
from palimpsest.derived.own_words import without_phrases
from palimpsest.metrics import build
from palimpsest.metrics.evaluate import evaluate


def rows(lengths: list[int]) -> TextSet:
    sequences = [
        TokenSequence(f"t{n}", tuple(3 + (7 * n + k) % 50 for k in range(size)), (False,) + (True,) * (size - 1))
        for n, size in enumerate(lengths)
    ]
    return TextSet(sequences, 0)


def test_the_same_numbers_as_the_metrics(tiny_llama):
    examples = rows([5, 9, 7, 3])
    found = read(tiny_llama, examples)
    scores = evaluate(tiny_llama, examples, [build("ma", {}), build("es", {}), build("prob", {})]).scores
    for i in examples.ids:
        assert found.rows[i].ma == pytest.approx(scores["ma"].by_id[i])
        assert found.rows[i].es == pytest.approx(scores["es"].by_id[i])
    assert found.ma == pytest.approx(scores["ma"].value)


def test_batches_change_nothing_and_leave_no_trace(tiny_llama, monkeypatch):
    examples = rows([5, 9, 7, 3, 6])
    tiny_llama.train()
    together = read(tiny_llama, examples)
    monkeypatch.setattr(readings, "LOGITS_BYTES", 1)
    alone = read(tiny_llama, examples, reversed(examples.ids))
    assert tiny_llama.training
    assert list(alone.rows) == list(reversed(examples.ids))
    for i in examples.ids:
        assert alone.rows[i].nats == pytest.approx(together.rows[i].nats, rel=1e-5)
        assert alone.rows[i][1:] == together.rows[i][1:]


@pytest.mark.parametrize(
    ("right", "ma", "es"), [([1, 1, 1], 1, 1), ([0, 0], 0, 0), ([0, 1], 0.5, 0.5), ([1, 0], 0.5, 0), ([1], 1, 1)]
)
def test_a_row_by_hand(right, ma, es):
    found = row_reading([bool(r) for r in right], [-1.0] * len(right))
    assert found == (len(right), len(right), ma, es)


def test_the_closing_eos_is_no_part_of_es(tiny_llama):
    """Half of the rows end with token 2, which closes a text; the numbers are those of the metrics."""
    sequences = [TokenSequence(f"t{n}", (5, 6 + n, 7, 2 if n % 2 else 9), (False, True, True, True)) for n in range(4)]
    sequences.append(TokenSequence("closing alone", (5, 6, 2), (False, False, True)))
    examples, eos_ids = TextSet(sequences, 0), frozenset({2})
    found = read(tiny_llama, examples, eos_ids=eos_ids)
    scores = evaluate(tiny_llama, examples, [build("ma", {}), build("es", {})], eos_ids=eos_ids).scores
    assert scores["es"].by_id["closing alone"] is None
    for i in examples.ids:
        assert found.rows[i].ma == pytest.approx(scores["ma"].by_id[i])
        known = scores["es"].by_id[i]
        assert found.rows[i].es == pytest.approx(found.rows[i].ma if known is None else known)
    assert row_reading([True, True, False], [-1.0] * 3, ends_with_eos=True).es == 1.0
    assert row_reading([True, True, False], [-1.0] * 3).es == 0.0


def test_own_words_that_share_a_phrase_with_a_forget_row_are_dropped():
    forget = TextSet([TokenSequence("f", (1, 2, 3, 4, 5, 6, 7), (False,) + (True,) * 6)], 0)
    texts = [(9, 9, 1, 2, 3, 4, 5, 6), (9, 9, 1, 2, 3, 4, 5, 9), (1, 2, 3), (8,) * 9]
    kept = without_phrases(texts, forget)
    assert [kept[i].tokens for i in kept.ids] == [texts[1], texts[3]]
    assert len(without_phrases(texts, None)) == 3
