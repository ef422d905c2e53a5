"""Alternatives: what is asked stays, what is answered is the model's own and never the row's."""

from __future__ import annotations

import pytest
import torch
from tests.contract.letters import letters
from torch import nn

from palimpsest import derived
from palimpsest.data.encode.batch import TextSet, TokenSequence
from palimpsest.derived.alternative import AlternativeConfig, _drawn, would_repeat
from palimpsest.models.load import Loaded

CONFIG = AlternativeConfig()
ROWS = (
    TokenSequence("a", (5, 6, 7, 8, 9, 10, 11, 2), (False, False, True, True, True, True, True, True)),
    TokenSequence("b", (9, 5, 6, 7, 8, 2), (False, True, True, True, True, True)),
    TokenSequence("c", (6, 5, 30, 31), (False, False, True, True)),
)


def made(model, folder, rows=ROWS, config=CONFIG, seed=0):
    loaded = Loaded(model, letters(), "toy")
    found = derived.load("alternative").make(loaded, {"forget": TextSet(rows, 0)}, config, seed=seed, folder=folder)
    return {i: found.examples[found.partner[i]] for i in found.partner}


def answer(row):
    return row.tokens[row.scored.index(True) :]


def reciting(tiny_llama):
    """Says 1 + the last token, for certain: the rows to the letter."""

    class Reciting(nn.Module):
        def __init__(self):
            super().__init__()
            self.config, self.anything = tiny_llama.config, nn.Parameter(torch.zeros(1))

        def forward(self, input_ids, **_):
            logits_BTV = nn.functional.one_hot((input_ids + 1) % 40, 40) * 25.0
            return type("Said", (), {"logits": logits_BTV})

    return Reciting()


def test_the_question_the_length_and_the_closing_token_stay(tiny_llama, tmp_path):
    for row in ROWS:
        other = made(tiny_llama, tmp_path)[row.id]
        first = row.scored.index(True)
        assert other.tokens[:first] == row.tokens[:first]
        assert 1 <= len(answer(other)) <= len(answer(row))
        assert (answer(other)[-1] == 2) is (answer(row)[-1] == 2)
        assert not set(answer(other)[:-1]) & {0, 1, 2, 3}


@pytest.mark.parametrize("gram", [1, 2, 3])
def test_what_is_known_by_heart_is_left(tiny_llama, tmp_path, gram):
    row = TokenSequence("a", (5, *range(6, 20)), (False,) * 3 + (True,) * 12)
    said = answer(made(reciting(tiny_llama), tmp_path, [row], AlternativeConfig(gram=gram))["a"])
    own = answer(row)
    shared = {own[k : k + gram] for k in range(len(own))} & {said[k : k + gram] for k in range(len(said) - gram + 1)}
    assert not shared
    assert said[: gram - 1] == own[: gram - 1]


def test_a_short_answer_is_not_said_whole(tiny_llama, tmp_path):
    row = TokenSequence("a", (5, 6, 7), (False, True, True))
    assert answer(made(reciting(tiny_llama), tmp_path, [row])["a"]) != (6, 7)


def test_draws_are_a_matter_of_seed_and_id_and_the_folder_keeps_them(tiny_llama, tmp_path):
    first = made(tiny_llama, tmp_path / "first")
    alone = made(tiny_llama, tmp_path / "alone", ROWS[1:2])
    assert alone["b"] == first["b"]
    assert made(tiny_llama, tmp_path / "other", seed=1) != first
    assert made(tiny_llama, tmp_path / "again") == first
    assert made(reciting(tiny_llama), tmp_path / "first") == first  # read, not drawn


def test_of_a_text_the_rest_is_made_up(tiny_llama, tmp_path):
    row = TokenSequence("t", (1, 5, 6, 7, 8, 9, 10, 2), (False,) + (True,) * 7)
    other = made(tiny_llama, tmp_path, [row])["t"]
    assert other.tokens[:4] == row.tokens[:4]
    assert other.scored.index(True) == 4


def test_a_draw_is_by_the_cumulative_distribution():
    logits_V = torch.tensor([0.1, 0.2, 0.3, 0.4]).log()
    assert [_drawn(logits_V, (), 1.0, u) for u in (0.0, 0.05, 0.15, 0.5, 0.99)] == [0, 0, 1, 2, 3]
    assert [_drawn(logits_V, (0, 3, 99), 1.0, u) for u in (0.0, 0.39, 0.41, 1 - 1e-12)] == [1, 1, 2, 2]
    assert _drawn(logits_V, (), 1e-3, 0.5) == 3


def test_what_would_repeat_as_spelled_out():
    own, gram = (4, 5, 4, 6, 4, 5, 7), 3
    for said in ((4, 5), (4, 6), (5,), (9, 9), (4, 5, 4, 5)):
        wanted = {
            t for t in range(10) if any((*said, t)[-gram:] == own[k : k + gram] for k in range(len(own) - gram + 1))
        }
        assert would_repeat(said, own, gram) == (wanted if len(said) >= gram - 1 else frozenset())
    assert would_repeat((), (4, 5), 1) == {4, 5}
