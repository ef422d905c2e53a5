from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from palimpsest.data.encode.batch import TextSet, TokenSequence
from palimpsest.metrics import build
from palimpsest.metrics.el import EL, ELOptions, overlaps
from palimpsest.metrics.evaluate import PassSettings, evaluate
from palimpsest.metrics.metric import Facts, Greedy

EXACT = {"abs": 1e-9, "rel": 0}


def el(n, first_prefix=1):
    return EL(ELOptions(n=n, first_prefix=first_prefix))


def check(model, rows, literal_continuations, literal_el, as_set, *, eos=(), grid=((2, 1), (4, 1), (10, 1), (4, 9))):
    """Compare every (n, first prefix) of the grid on every row; returns how many values are neither 0 nor 1."""
    continuations = [literal_continuations(model, row, eos) for row in rows]
    between = 0
    for n, first in grid:
        score = evaluate(model, as_set(rows), [el(n, first)], eos_ids=frozenset(eos)).scores[f"el_{n}"]
        for k, row in enumerate(rows):
            expected = literal_el(row, continuations[k], n, first)
            assert score.by_id[f"x{k}"] == (None if expected is None else pytest.approx(expected, **EXACT))
            between += expected is not None and 0 < expected < 1
    return between


@pytest.mark.slow
def test_equals_generate_for_every_prefix(half_learned, texts, literal_continuations, literal_el, as_set):
    assert check(half_learned, texts.tolist(), literal_continuations, literal_el, as_set) >= 6


@pytest.mark.slow
@pytest.mark.parametrize("eos", [(3,), (5, 8)])
def test_equals_generate_with_eos_inside_the_text(half_learned, texts, literal_continuations, literal_el, as_set, eos):
    assert all(set(eos) & set(row[4:]) for row in texts.tolist())
    assert check(half_learned, texts.tolist(), literal_continuations, literal_el, as_set, eos=eos) >= 4


@pytest.mark.slow
def test_equals_generate_where_logits_tie_exactly(half_learned, texts, literal_continuations, literal_el, as_set):
    model = copy.deepcopy(half_learned)
    with torch.no_grad():
        head = model.get_output_embeddings().weight
        head[20:32] = head[:12]  # every token of the texts has a twin with a higher id,
        head[[0, 1, 2]] = head[[40, 41, 42]]  # and three of them another one,
        head[[40, 41, 42]] = head[[20, 21, 22]]  # so that the lowest of the twins is not in the texts
    assert evaluate(model, as_set(texts.tolist()), [el(4)]).near_ties > 50
    check(model, texts.tolist(), literal_continuations, literal_el, as_set)


@pytest.mark.slow
def test_equals_generate_for_ragged_lengths_in_one_batch(
    half_learned, texts, literal_continuations, literal_el, as_set
):
    rows = [row[:length] for row, length in zip(texts.tolist(), (20, 11, 5), strict=True)]
    check(half_learned, rows, literal_continuations, literal_el, as_set, eos=(3,))


def test_prompt_is_not_a_prefix(half_learned, texts, literal_continuations, literal_el, as_set):
    rows, prompts = texts[:2].tolist(), (9, 14)
    score = evaluate(half_learned, as_set(rows, prompts), [el(4)]).scores["el_4"]
    for k, (row, prompt) in enumerate(zip(rows, prompts, strict=True)):
        expected = literal_el(row, literal_continuations(half_learned, row), 4, prompt)
        assert score.by_id[f"x{k}"] == pytest.approx(expected, **EXACT)


def test_chunks_of_chains_do_not_change_the_result(half_learned, texts, as_set):
    examples = as_set(texts.tolist())
    whole = evaluate(half_learned, examples, [el(2)]).scores["el_2"].by_id
    little = PassSettings(cache_bytes=1)
    chunks = evaluate(half_learned, examples, [el(2)], settings=little).scores["el_2"].by_id
    assert chunks == pytest.approx(whole, **EXACT)


def test_a_model_without_a_shareable_cache_gives_the_same(half_learned, texts, as_set, monkeypatch):
    examples = as_set(texts.tolist())
    shared = evaluate(half_learned, examples, [el(2)], eos_ids=frozenset({3}))
    monkeypatch.setattr("palimpsest.metrics.greedy.decode.shareable", lambda cache, tokens_BT: False)
    recomputed = evaluate(half_learned, examples, [el(2)], eos_ids=frozenset({3}))
    assert recomputed.scores["el_2"].by_id == pytest.approx(shared.scores["el_2"].by_id, **EXACT)
    assert recomputed.cost.tokens > 2 * shared.cost.tokens


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batch_size=st.integers(1, 4), lengths=st.lists(st.integers(6, 20), min_size=3, max_size=3))
def test_does_not_depend_on_the_batch_size(half_learned, texts, as_set, batch_size, lengths):
    examples = as_set([row[:length] for row, length in zip(texts.tolist(), lengths, strict=True)])
    one = evaluate(half_learned, examples, [el(3)], batch_size=1).scores["el_3"].by_id
    assert evaluate(half_learned, examples, [el(3)], batch_size=batch_size).scores["el_3"].by_id == pytest.approx(
        one, **EXACT
    )


@pytest.mark.parametrize(("length", "expected"), [(4, None), (5, 1.0)])
def test_too_short_is_unscored(length, expected):
    tokens = np.arange(length)
    facts = Facts(
        tokens_T=tokens,
        scored_S=tokens[1:],
        right_S=np.ones(length - 1, dtype=bool),
        logp_S=np.zeros(length - 1),
        ends_with_eos=False,
        greedy=Greedy(np.array([], dtype=int), np.zeros((0, length), dtype=int)),
    )
    statistics = el(4).update(facts)
    assert (None if statistics is None else statistics.total / statistics.size) == expected


def test_hand_worked_example():
    """The numbers of the module docstring: overlaps 1, 1/2 and 0, mean 1/2."""
    greedy = Greedy(np.array([1, 2, 3]), np.array([[1, 2, 3, 1, 2], [1, 2, 1, 2, 1], [1, 2, 3, 9, 9]]))
    found = overlaps(np.array([1, 2, 3, 1, 2]), greedy, n=2, first=1)
    assert found.tolist() == [1.0, 0.5, 0.0]


def test_a_match_behind_its_last_place_does_not_count():
    """x = 1 2 3 4 5, n = 1: after the prefix 1 2 3 the continuation 2 2 repeats a token that only the prefix holds."""
    greedy = Greedy(np.array([3]), np.array([[1, 2, 3, 2, 2]]))
    found = overlaps(np.array([1, 2, 3, 4, 5]), greedy, n=1, first=1)
    # prefix 1: 2 3 2 2 all occur in 2 3 4 5; prefix 2: 3 occurs in 3 4 5; prefix 3: none in 4 5; prefix 4: the text.
    assert found.tolist() == [1.0, 1 / 3, 0.0, 1.0]


def test_everything_right_is_one_and_decodes_nothing(texts, as_set):
    class Echo(torch.nn.Module):
        """Knows the text by position."""

        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.nn.functional.one_hot(texts[0].roll(-1), 64).float())

        def forward(self, input_ids, attention_mask=None, past_key_values=None, use_cache=False):
            return type(
                "Output", (), {"logits": self.weight[: input_ids.shape[1]].expand(len(input_ids), -1, -1).clone()}
            )

    evaluation = evaluate(Echo(), as_set(texts[:1].tolist()), [el(2), el(10), build("ma", {})])
    assert [evaluation.scores[key].value for key in ("el_2", "el_10", "ma")] == [1.0, 1.0, 1.0]
    assert evaluation.cost.tokens == texts.shape[1]


def test_literal_ma_and_two_el_in_one_call(half_learned, texts, literal_ma, literal_continuations, literal_el, as_set):
    row = texts[0].tolist()
    continuations = literal_continuations(half_learned, row)
    scores = evaluate(half_learned, as_set([row]), [build("ma", {}), el(2, 4), el(5, 2)]).scores
    assert scores["ma"].value == pytest.approx(literal_ma(half_learned, row), **EXACT)
    assert scores["el_2"].value == pytest.approx(literal_el(row, continuations, 2, 4), **EXACT)
    assert scores["el_5"].value == pytest.approx(literal_el(row, continuations, 5, 2), **EXACT)


def test_example_without_labels_is_unscored(half_learned):
    examples = TextSet(
        [TokenSequence("x", (1, 2, 3, 4), (False,) * 4), TokenSequence("y", (1, 2, 3), (False, True, True))], 0
    )
    score = evaluate(half_learned, examples, [el(1)]).scores["el_1"]
    assert score.by_id["x"] is None
    assert (score.n, score.unscored) == (1, 1)
