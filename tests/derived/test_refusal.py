"""Refusals: what is asked stays to the token, what is answered is a sentence with the row's closing token."""

from __future__ import annotations

import pytest
from tests.contract.letters import letters

from palimpsest import derived
from palimpsest.data.encode.batch import TextSet, TokenSequence
from palimpsest.data.encode.text import encode
from palimpsest.derived.refusal import REFUSALS, RefusalConfig, answered_row, closing_of, question_of
from palimpsest.errors import PlanError
from palimpsest.models.load import Loaded
from palimpsest.records import Chat, Completion, Example, Message, Text

TEMPLATE = (
    "{% for m in messages %}{{ m.role[0] }}; {{ m.content }}<eos>{% endfor %}"
    "{% if add_generation_prompt %}a; {% endif %}"
)


def made(model, examples, tokenizer=None, config=None, seed=0, **options):
    tokenizer = tokenizer or letters()
    forget = encode(examples, tokenizer, max_length=None, **options)
    loaded = Loaded(model, tokenizer, "toy")
    made = derived.load("refusal").make(loaded, {"forget": forget}, config or RefusalConfig(), seed=seed, folder=None)
    return forget, made, tokenizer


def parts(tokenizer, row: TokenSequence) -> tuple[str, str]:
    first = row.scored.index(True)
    return tokenizer.decode(row.tokens[:first]), tokenizer.decode(row.tokens[first:])


def test_a_completion_keeps_its_prompt_its_blank_and_its_eos(tiny_llama):
    forget, found, tokenizer = made(tiny_llama, [Example("a", Completion("who is it;", " it is ann."))])
    row = found.examples["refusal of a"]
    asked, answered = parts(tokenizer, row)
    assert asked == "who is it;"
    assert row.tokens[: row.scored.index(True)] == forget["a"].tokens[: row.scored.index(True)]
    assert answered.startswith(" ")
    assert answered.strip().removesuffix("<eos>") in {s.lower() for s in REFUSALS}
    assert row.tokens[-1] == tokenizer.eos_token_id
    assert all(row.scored[row.scored.index(True) :])
    assert found.partner == {"a": "refusal of a"}


def test_a_chat_is_refused_in_its_first_turn(tiny_llama):
    tokenizer = letters()
    tokenizer.chat_template = TEMPLATE
    turns = [("user", "who"), ("assistant", "ann"), ("user", "where"), ("assistant", "here")]
    chat = Chat(tuple(Message(*turn) for turn in turns))
    _, found, _ = made(tiny_llama, [Example("c", chat)], tokenizer)
    asked, answered = parts(tokenizer, found.examples["refusal of c"])
    assert asked == "u; who<eos>a; "
    assert answered.removesuffix("<eos>") in {s.lower() for s in REFUSALS}
    assert answered.endswith("<eos>")
    assert "where" not in asked + answered


def test_of_a_text_the_beginning_is_the_question(tiny_llama):
    _, found, tokenizer = made(tiny_llama, [Example("t", Text("ann lives here"))])
    asked, answered = parts(tokenizer, found.examples["refusal of t"])
    assert asked == "ann live"  # 8 of 15 tokens, the closing one included
    assert answered.endswith("<eos>")
    assert "of 1 text without a question the beginning stood for one" in found.note


def test_which_sentence_is_a_matter_of_seed_and_id_alone(tiny_llama):
    rows = [Example(f"p{n}", Completion("who;", f" ann {chr(97 + n)}.")) for n in range(12)]
    _, all_rows, _ = made(tiny_llama, rows)
    _, few, _ = made(tiny_llama, rows[::-3])
    assert {i: all_rows.examples[i] for i in few.examples.ids} == {i: few.examples[i] for i in few.examples.ids}
    _, others, _ = made(tiny_llama, rows, seed=1)
    assert [others.examples[i] for i in others.examples.ids] != [all_rows.examples[i] for i in all_rows.examples.ids]
    assert len({all_rows.examples[i].tokens for i in all_rows.examples.ids}) > 3


def test_sentences_of_the_user(tiny_llama):
    row = [Example("a", Completion("q", "x"))]
    _, found, tokenizer = made(tiny_llama, row, config=RefusalConfig(sentences=("no.",)))
    assert parts(tokenizer, found.examples["refusal of a"])[1] == "no.<eos>"
    with pytest.raises(PlanError, match=r"derived\.refusal\.sentences: one of them is blank"):
        made(tiny_llama, row, config=RefusalConfig(sentences=(" ",)))


def test_what_is_too_long_loses_the_beginning_of_the_question():
    row = answered_row("a", range(10), [20, 21], [2], longest=8)
    assert row.tokens == (5, 6, 7, 8, 9, 20, 21, 2)
    assert row.scored == (False,) * 5 + (True,) * 3


def test_without_special_tokens_nothing_closes():
    assert closing_of((7, 8), {2}) == ()
    assert question_of(TokenSequence("a", (1, 2, 3, 4, 5), (False, False, True, False, True)), 0.5).answer == (3,)


def test_a_model_without_a_tokenizer_is_refused(tiny_llama):
    forget = TextSet([TokenSequence("a", (1, 2, 3), (False, False, True))], 0)
    with pytest.raises(PlanError, match="written in words and model toy has no tokenizer"):
        derived.load("refusal").make(
            Loaded(tiny_llama, None, "toy"), {"forget": forget}, RefusalConfig(), seed=0, folder=None
        )
