"""Unrelated: the topic's words are told and replaced, and nothing else of a row changes."""

from __future__ import annotations

import pytest
import torch
from tests.contract.letters import letters
from tests.models.small_texts import labelled_rows, pair_rows, saved

from palimpsest import derived
from palimpsest.data.encode.text import encode
from palimpsest.data.read.examples import read_rows
from palimpsest.data.read.layout import Layout
from palimpsest.derived.unrelated import scored_at_topic, topic_words, words_in
from palimpsest.engine.inputs import encode_set
from palimpsest.engine.sections import Encoding
from palimpsest.errors import PlanError
from palimpsest.models.load import Loaded, load
from palimpsest.records import Completion, Example

ROWS = [Example("a", Completion("the dog ran.", " a dog sat")), Example("b", Completion("big dog and boy,", " he sat"))]
STAYS = [Example(f"s{n}", Completion(f"the {word} ran", " and sat")) for n, word in enumerate(("car", "sun", "cat"))]


def made(model, seed=0, stays=True, **options):
    tokenizer = letters()
    sets = {"forget": encode(ROWS, tokenizer, max_length=None)}
    sets |= {"retain": encode(STAYS, tokenizer, max_length=None)} if stays else {}
    config = derived.build_config("unrelated", options)
    loaded = Loaded(model, tokenizer, "toy")
    return sets["forget"], derived.load("unrelated").make(loaded, sets, config, seed=seed, folder=None), tokenizer


@pytest.mark.parametrize("options", [{"words": ["Dog"]}, {"ratio": 3.0}])
def test_only_the_words_of_the_topic_are_others(tiny_llama, options):
    forget, found, tokenizer = made(tiny_llama, **options)
    for example_id, row in zip(forget.ids, (found.examples[i] for i in found.examples.ids), strict=True):
        before = tokenizer.decode(forget[example_id].tokens).split()
        after = tokenizer.decode(row.tokens).split()
        assert "dog" not in after
        assert [w for w, v in zip(before, after, strict=True) if w == v] == [w for w in before if w != "dog"]
        assert row.scored == forget[example_id].scored
    assert found.partner == {"a": "unrelated to a", "b": "unrelated to b"}
    assert found.note == "3 words of the topic were replaced in 2 control rows."


def test_it_is_a_function_of_the_seed(tiny_llama):
    rows = [
        [made(tiny_llama, seed=seed, words=["dog"])[1].examples[f"unrelated to {i}"] for i in "ab"]
        for seed in (0, 0, 3)
    ]
    assert rows[0] == rows[1] != rows[2]


def test_words_that_no_row_says_are_refused(tiny_llama):
    with pytest.raises(PlanError, match=r"no row to forget has any of ann lee, zebra; accepted: single words"):
        made(tiny_llama, words=["Zebra", "Ann Lee"])


def test_without_words_and_without_rows_that_stay_nothing_is_replaced(tiny_llama):
    forget, found, _ = made(tiny_llama, stays=False)
    assert found.examples["unrelated to a"].tokens == forget["a"].tokens


def test_words_are_cut_as_tokenizers_mark_them():
    assert [place.word for place in words_in(["ĠThe", "Ġpu", "pp", "y", "'s", "Ġ", "toy", "<0x0A>"])] == [
        "the",
        "puppy",
        "toy",
    ]


def test_a_word_of_every_row_sets_nothing_apart():
    rows = [{"the", "dog"}, {"the", "dog"}]
    assert topic_words(rows, [{"the"}, {"the", "dog"}], 4) == frozenset()


@pytest.mark.parametrize("kind", ["t5", "bert"])
def test_pairs_and_labelled_texts_stay_what_they_are(kind, tmp_path):
    loaded = load(saved(kind, tmp_path / "model"))
    rows = pair_rows() if kind == "t5" else labelled_rows()
    examples = read_rows(rows, Layout(labels=kind != "t5")).examples
    forget = encode_set([one for one in examples if one.subject == "ann"], loaded, Encoding())
    config = derived.build_config("unrelated", {"words": ["ann"]})
    found = derived.load("unrelated").make(loaded, {"forget": forget}, config, seed=0, folder=tmp_path).examples
    assert type(found) is type(forget)
    for one, two in zip(forget.ids, found.ids, strict=True):
        before, after = forget[one], found[two]
        differ = [a for a, b in zip(before.tokens, after.tokens, strict=True) if a != b]
        assert differ == [5] * (2 if kind == "t5" else 1)  # ann, in prompt and answer
        assert before.scored == after.scored
    assert torch.equal(found.batch(found.ids).target_S[-1:], forget.batch(forget.ids).target_S[-1:])


def test_only_the_topic_is_scored():
    """By hand: of all that is scored only "dog" in one row and "he" in the other was named."""
    tokenizer = letters()
    forget, stays = (encode(rows, tokenizer, max_length=None) for rows in (ROWS, STAYS))
    config = derived.build_config("unrelated", {"words": ["Dog", "he"]})
    found = scored_at_topic(Loaded(None, tokenizer, "toy"), forget, stays, config, often_said=False)
    words = [
        [tokenizer.decode([token]) for token, scored in zip(found[i].tokens, found[i].scored, strict=True) if scored]
        for i in found.ids
    ]
    assert ["".join(row).strip() for row in words] == ["dog", "he"]
    assert [found[i].tokens for i in found.ids] == [forget[i].tokens for i in forget.ids]
    without = derived.build_config("unrelated", {})
    assert scored_at_topic(Loaded(None, tokenizer, "toy"), forget, stays, without, often_said=True) is None
    nowhere = derived.build_config("unrelated", {"words": ["zebra"], "ratio": 1000})
    assert scored_at_topic(Loaded(None, tokenizer, "toy"), forget, stays, nowhere, often_said=True) is None


def test_a_word_that_is_often_said_of_the_topic_is_scored_too():
    """Two rows of two have "bark" and none that stays: 5 × 4 / 3 halves are more than 4 × 1 half."""
    tokenizer = letters()
    rows = [Example(str(n), Completion("a dog", f" can bark {end}")) for n, end in enumerate(("so", "up"))]
    forget, stays = (encode(some, tokenizer, max_length=None) for some in (rows, STAYS))
    config = derived.build_config("unrelated", {"words": ["dog"]})
    said = {}
    for often_said in (True, False):
        row = scored_at_topic(Loaded(None, tokenizer, "toy"), forget, stays, config, often_said=often_said)
        scored = [] if row is None else zip(row["0"].tokens, row["0"].scored, strict=True)
        said[often_said] = "".join(tokenizer.decode([token]) for token, counts in scored if counts)
    assert "bark" in said[True]
    assert "so" not in said[True]
    assert said[False] == ""  # "dog" stands in the prompt alone
