"""Mismatched answers: what is asked stays, what is answered is of a row that stays."""

from __future__ import annotations

from palimpsest import derived
from palimpsest.data.encode.batch import TextSet, TokenSequence
from palimpsest.derived.mismatched import MismatchedConfig
from palimpsest.models.load import Loaded


def row(name, prompt, *tokens):
    return TokenSequence(name, tokens, (False,) * prompt + (True,) * (len(tokens) - prompt))


FORGET = [row(f"f{n}", 2, 5, 6 + n, 7, 2) for n in range(16)]
RETAIN = [row(f"r{n}", 3, 9, 9, 9, 10 + n, 20 + n, 2) for n in range(5)]


def made(model, forget=FORGET, seed=0):
    sets = {"forget": TextSet(forget, 0), "retain": TextSet(RETAIN, 0)}
    loaded = Loaded(model, None, "toy")
    found = derived.load("mismatched").make(loaded, sets, MismatchedConfig(), seed=seed, folder=None)
    return {i: found.examples[found.partner[i]] for i in found.partner}


def test_a_question_with_the_whole_answer_of_another(tiny_llama):
    answers = {r.tokens[3:] for r in RETAIN}
    for own in FORGET:
        other = made(tiny_llama)[own.id]
        assert other.tokens[:2] == own.tokens[:2]
        assert other.tokens[2:] in answers
        assert other.scored == (False, False, True, True, True)


def test_which_answer_is_a_matter_of_seed_and_id_alone(tiny_llama):
    whole = made(tiny_llama)
    assert made(tiny_llama, FORGET[5:6])["f5"] == whole["f5"]
    assert made(tiny_llama, seed=1) != whole
    assert len({other.tokens[2:] for other in whole.values()}) > 2


def test_a_text_goes_on_as_another_does(tiny_llama):
    text = row("t", 1, 1, 5, 6, 7, 8, 9)
    assert made(tiny_llama, [text])["t"].tokens[:3] == text.tokens[:3]
