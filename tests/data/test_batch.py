from __future__ import annotations

import math
from random import Random
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import GPT2Config, GPT2LMHeadModel

from palimpsest.data.encode.batch import Predictions, TextBatch, TextSet, TokenSequence, collate

VOCABULARY = 61
PAD = 0


Ragged = list[list[tuple[int, bool]]]
ragged = st.lists(
    st.lists(st.tuples(st.integers(0, VOCABULARY - 1), st.booleans()), min_size=2, max_size=9), min_size=1, max_size=5
)


def sequences(drawn: Ragged) -> list[TokenSequence]:
    """Built outside the strategy: the run-time type checks draw random numbers, which hypothesis forbids there."""
    return [
        TokenSequence(str(number), tuple(t for t, _ in row), (False, *(flag for _, flag in row[1:])))
        for number, row in enumerate(drawn)
    ]


def labels(rows: list[TokenSequence]) -> list[tuple[int, int]]:
    """(row, position) of every label, row by row: the order that the batch promises."""
    return [(r, t) for r, row in enumerate(rows) for t in range(len(row.tokens)) if row.scored[t]]


@given(ragged)
def test_collate_keeps_tokens_labels_and_lengths(drawn: Ragged) -> None:
    rows = sequences(drawn)
    batch = collate(rows, pad_id=PAD)
    longest = max(len(row.tokens) for row in rows)
    assert batch.ids == tuple(row.id for row in rows)
    assert batch.input_ids_BT.tolist() == [[*row.tokens, *[PAD] * (longest - len(row.tokens))] for row in rows]
    assert batch.scored_BT.tolist() == [[*row.scored, *[False] * (longest - len(row.scored))] for row in rows]
    assert batch.attention_mask_BT.tolist() == [[int(t < len(row.tokens)) for t in range(longest)] for row in rows]
    assert len(batch) == len(rows)
    assert batch.num_scored == len(labels(rows))


@given(ragged)
def test_gather_reads_the_position_before_each_label(drawn: Ragged) -> None:
    rows = sequences(drawn)
    batch = collate(rows, pad_id=PAD)
    shape = batch.input_ids_BT.shape
    values_BT = torch.arange(shape[0] * shape[1]).reshape(shape)
    expected = [int(values_BT[r, t - 1]) for r, t in labels(rows)]
    assert batch.gather(values_BT).tolist() == expected
    assert batch.gather(torch.stack([values_BT, -values_BT], dim=-1)).tolist() == [[v, -v] for v in expected]
    assert batch.target_S.tolist() == [rows[r].tokens[t] for r, t in labels(rows)]
    assert batch.owner_S.tolist() == [r for r, _ in labels(rows)]


@given(ragged, st.integers(0, 2**32))
def test_log_probabilities_equal_a_loop_over_rows(drawn: Ragged, seed: int) -> None:
    rows = sequences(drawn)
    batch = collate(rows, pad_id=PAD)
    random = Random(seed)
    table = [[random.uniform(-4, 4) for _ in range(VOCABULARY)] for _ in range(VOCABULARY)]

    class Bigram(torch.nn.Module):
        """Logits depend on the last token alone, so that the oracle needs no model."""

        def forward(self, input_ids: Any, attention_mask: Any, use_cache: bool) -> Any:
            return type("Output", (), {"logits": torch.tensor(table)[input_ids]})

    predictions = batch.predict(Bigram())
    for r, row in enumerate(rows):
        expected, count = 0.0, 0
        for t in range(1, len(row.tokens)):
            if row.scored[t]:
                logits = table[row.tokens[t - 1]]
                expected += logits[row.tokens[t]] - math.log(sum(math.exp(x) for x in logits))
                count += 1
        assert float(predictions.logp_B[r]) == pytest.approx(expected, abs=1e-4)
        assert float(predictions.count_B[r]) == count
        if count:
            assert float(predictions.nll_B[r]) == pytest.approx(-expected / count, abs=1e-4)
        else:
            assert math.isnan(float(predictions.nll_B[r]))


def test_half_precision_logits_are_scored_in_fp32() -> None:
    logits_SV = torch.tensor([[8.0, 8.0, 0.0, -3.0]], dtype=torch.bfloat16)
    predictions = Predictions(logits_SV, torch.tensor([0]), torch.tensor([0]), num_examples=1)
    assert predictions.logp_S.dtype == torch.float32
    exact = 8.0 - math.log(2 * math.exp(8.0) + 1 + math.exp(-3.0))
    assert float(predictions.logp_S[0]) == pytest.approx(exact, abs=1e-6)


def test_sum_by_example_lets_gradients_through() -> None:
    values_S = torch.tensor([1.0, 2.0, 4.0], requires_grad=True)
    predictions = Predictions(torch.zeros(3, 2), torch.zeros(3, dtype=torch.long), torch.tensor([2, 0, 2]), 4)
    sums_B = predictions.sum_by_example(values_S)
    assert sums_B.tolist() == [2.0, 0.0, 5.0, 0.0]
    sums_B[2].backward()
    assert values_S.grad is not None
    assert values_S.grad.tolist() == [1.0, 0.0, 1.0]


def more_padding(batch: TextBatch, columns: int, token: int) -> TextBatch:
    extra = torch.full((len(batch), columns), token)
    return TextBatch(
        batch.ids,
        torch.cat([batch.input_ids_BT, extra], dim=1),
        batch.lengths_B,
        torch.cat([batch.scored_BT, torch.zeros_like(extra, dtype=torch.bool)], dim=1),
    )


@pytest.fixture
def tiny_gpt2() -> GPT2LMHeadModel:
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=VOCABULARY, n_positions=32, n_embd=16, n_layer=2, n_head=2, bos_token_id=1, eos_token_id=2
    )
    return GPT2LMHeadModel(config).eval()


@pytest.mark.parametrize("name", ["tiny_llama", "tiny_gpt2"])
def test_padding_changes_nothing(name: str, request: pytest.FixtureRequest) -> None:
    model = request.getfixturevalue(name)
    flags = (False, True, False, True, True, True, True)
    rows = [
        TokenSequence("long", (5, 9, 2, 7, 7, 3, 2), flags),
        TokenSequence("short", (4, 2, 2), (False, True, True)),
    ]
    batch = collate(rows, pad_id=2)  # the pad token is a genuine token here, and is scored where it is one
    with torch.no_grad():
        together = batch.predict(model)
        padded = more_padding(batch, 5, token=7).predict(model)
        alone = [collate([row], pad_id=0).predict(model) for row in rows]
    assert together.count_B.tolist() == [5.0, 2.0]
    torch.testing.assert_close(padded.logits_SV, together.logits_SV, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(torch.cat([p.logits_SV for p in alone]), together.logits_SV, atol=1e-5, rtol=1e-5)


def test_to_moves_every_tensor() -> None:
    batch = collate([TokenSequence("a", (1, 2), (False, True))], pad_id=0).to(torch.device("meta"))
    assert {t.device.type for t in (batch.input_ids_BT, batch.lengths_B, batch.scored_BT)} == {"meta"}
    assert batch.ids == ("a",)


def test_a_set_hands_out_batches_in_the_order_asked() -> None:
    rows = [TokenSequence(name, (n, n + 1), (False, True)) for n, name in enumerate("abc")]
    data = TextSet(rows, pad_id=0)
    assert data.ids == ("a", "b", "c")
    assert len(data) == 3
    assert data["b"] is rows[1]
    assert data.batch(["c", "a", "c"]).input_ids_BT.tolist() == [[2, 3], [0, 1], [2, 3]]
    with pytest.raises(KeyError):
        data.batch(["d"])
