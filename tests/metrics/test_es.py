from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.metrics.conftest import learn, new_model

from palimpsest.data.encode.batch import TextSet, TokenSequence
from palimpsest.metrics import build
from palimpsest.metrics.es import ES
from palimpsest.metrics.evaluate import evaluate
from palimpsest.metrics.metric import Facts
from palimpsest.models.load import load


@pytest.mark.parametrize(
    ("right", "value"),
    [
        ([True, False, True, True], 0.5),
        ([False, False, False, True], 0.25),
        ([False] * 4, 0.0),
        ([True] * 4, 1.0),
        ([True, True, True, False], 0.0),
        ([True], 1.0),
        ([False], 0.0),
    ],
)
def test_hand_worked_examples(facts_of, right, value):
    assert ES().compute({"x": ES().update(facts_of(right))}).value == value


@pytest.mark.parametrize("closing", [True, False])
@pytest.mark.parametrize(("right", "value"), [([True, False, True, True], 0.5), ([True] * 3, 1.0), ([False] * 2, 0.0)])
def test_the_closing_eos_counts_neither_right_nor_wrong(facts_of, right, value, closing):
    assert ES().compute({"x": ES().update(facts_of([*right, closing], ends_with_eos=True))}).value == value


def test_without_an_answer_it_is_unscored(facts_of):
    assert ES().update(facts_of([])) is None
    assert ES().update(facts_of([True], ends_with_eos=True)) is None


def test_its_version_says_that_the_closing_eos_went(facts_of):
    """Version 1 read 3/4 and 0 of these two; scores of different versions are not compared."""
    assert ES().compute({"x": ES().update(facts_of([False, True, True, True], ends_with_eos=True))}).version == 2
    assert ES().update(facts_of([False, True, True, True], ends_with_eos=True)) == (2, 3)
    assert ES().update(facts_of([False, True, True, False], ends_with_eos=True)) == (2, 3)


def test_losing_the_eos_row_alone_is_not_forgetting(texts, as_set):
    """What is known by heart stays at ES 1 when the sign of the eos row of the head flips and nothing else."""
    eos = 63
    closed = torch.cat([texts, torch.full((len(texts), 1), eos)], dim=1)
    model = learn(new_model("llama"), closed, enough=1.0)
    examples, names = as_set(closed.tolist(), prompts=[4] * len(closed)), ("es", "em", "ma")

    def measured() -> dict[str, float]:
        scores = evaluate(model, examples, [build(n, {}) for n in names], eos_ids=frozenset({eos})).scores
        return {name: scores[name].value for name in names}

    assert measured() == {"es": 1.0, "em": 1.0, "ma": 1.0}
    with torch.no_grad():
        model.get_output_embeddings().weight[eos] *= -1
    found = measured()
    assert (found["es"], found["em"]) == (1.0, 1.0)
    assert found["ma"] < 1.0  # the closing token was lost, and MA says so


@pytest.mark.shared
def test_a_model_s_own_words_are_known_by_heart(shared_data):
    """Greedy text of llama-stories cut into prompt and completion, encoded with a closing eos that it did not write."""
    loaded = load(shared_data / "llama-stories260k", as_stored=True)
    starts = ("Once", "The", "Lily", "Tom", "One day", "A big", "Mom", "He")
    examples = []
    for start in starts:
        ids = loaded.tokenizer(start, return_tensors="pt").input_ids
        with torch.no_grad():
            said = loaded.model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=40, do_sample=False)
        tokens = (*said[0].tolist(), loaded.tokenizer.eos_token_id)
        examples.append(TokenSequence(start, tokens, tuple(t >= ids.shape[1] for t in range(len(tokens)))))
    metrics = [build(name, {}) for name in ("es", "em", "ma")]
    scores = evaluate(loaded.model, TextSet(examples, 0), metrics, eos_ids=loaded.eos_ids).scores
    assert set(scores["em"].by_id.values()) == {1.0}
    assert set(scores["es"].by_id.values()) == {1.0}
    assert scores["ma"].value < 1.0  # none of them wrote the closing eos


@given(st.lists(st.booleans(), min_size=1, max_size=30))
def test_equals_the_definition(right):
    """Try every k from 0 until the rest is right."""
    length = len(right)
    k = next(k for k in range(length + 1) if all(right[k:]))
    tokens = np.arange(length + 1)
    facts = Facts(tokens, tokens[1:], np.array(right), np.zeros(length), ends_with_eos=False)
    assert ES().update(facts) == (length - k, length)
