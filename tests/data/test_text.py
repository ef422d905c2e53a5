from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from palimpsest.data.encode.batch import TokenSequence
from palimpsest.data.encode.text import encode
from palimpsest.errors import DataError, ModelError
from palimpsest.records import Chat, Completion, Content, Example, Message, Text, TokenIds

BOS, EOS, UNK = "<s>", "</s>", "<unk>"


def byte_tokenizer(*, merges: tuple[tuple[str, str], ...] = (), template: str | None = None) -> PreTrainedTokenizerFast:
    """Byte-level BPE over all bytes, pad == eos; ids: 0 unk, 1 bos, 2 eos, then bytes, then merges."""
    names = [UNK, BOS, EOS, *sorted(pre_tokenizers.ByteLevel.alphabet()), *(a + b for a, b in merges)]
    inner = Tokenizer(models.BPE({name: i for i, name in enumerate(names)}, list(merges), unk_token=UNK))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    inner.decoder = decoders.ByteLevel()
    if template:
        inner.post_processor = processors.TemplateProcessing(single=template, special_tokens=[(BOS, 1), (EOS, 2)])
    return PreTrainedTokenizerFast(tokenizer_object=inner, bos_token=BOS, eos_token=EOS, unk_token=UNK, pad_token=EOS)


BYTES = byte_tokenizer()


def one(content: Content, tokenizer: Any, **options: Any) -> TokenSequence:
    return encode([Example("x", content)], tokenizer, **{"max_length": None, **options})["x"]


def parts(sequence: TokenSequence, tokenizer: Any) -> tuple[str, str]:
    """What is not scored and what is, decoded; fails if the labels are not one run at the end."""
    start = sequence.scored.index(True)
    assert all(sequence.scored[start:])
    return tokenizer.decode(sequence.tokens[:start]), tokenizer.decode(sequence.tokens[start:])


def test_text_scores_everything_after_the_first_token() -> None:
    sequence = one(Text("abc"), BYTES)
    assert BYTES.decode(sequence.tokens) == "abc</s>"
    assert sequence.scored == (False, True, True, True)


def test_a_tokenizer_that_adds_bos_and_eos_gets_neither_twice() -> None:
    both = byte_tokenizer(template=f"{BOS} $A {EOS}")
    text = one(Text("ab"), both)
    assert both.decode(text.tokens) == "<s>ab</s>"
    assert text.scored == (False, True, True, True)
    assert parts(one(Completion("ab", "cd"), both), both) == ("<s>ab", "cd</s>")
    assert parts(one(Completion("ab</s>", "cd"), both), both) == ("<s>ab</s>", "cd</s>")


def test_genuine_eos_is_scored_although_pad_is_eos() -> None:
    assert BYTES.pad_token_id == BYTES.eos_token_id == 2
    examples = [Example("inside", Text("a</s>b</s>")), Example("short", Text("z"))]
    batch = encode(examples, BYTES, max_length=None).batch(["inside", "short"])
    assert (batch.input_ids_BT[0] == 2).nonzero()[:, 0].tolist() == [1, 3]
    assert batch.scored_BT.tolist() == [[False, True, True, True], [False, True, False, False]]
    assert batch.input_ids_BT[1].tolist()[1:] == [2, 2, 2]
    assert batch.attention_mask_BT.tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]


def test_without_append_eos_nothing_is_added() -> None:
    assert BYTES.decode(one(Text("ab"), BYTES, append_eos=False).tokens) == "ab"
    assert parts(one(Completion("a", "b"), BYTES, append_eos=False), BYTES) == ("a", "b")


def test_completion_scores_completion_and_one_eos() -> None:
    assert parts(one(Completion("Q?", " A"), BYTES), BYTES) == ("Q?", " A</s>")
    assert parts(one(Completion("Q?", "A"), BYTES), BYTES) == ("Q?", "A</s>")
    assert parts(one(Completion("Q?", " A</s>"), BYTES), BYTES) == ("Q?", " A</s>")


def test_a_separator_stands_before_the_completion_and_is_scored() -> None:
    apart = one(Completion("Who?", "Ann."), BYTES, separator=" ")
    assert apart == one(Completion("Who?", " Ann."), BYTES)
    assert parts(apart, BYTES) == ("Who?", " Ann." + EOS)
    assert one(Text("Who?"), BYTES, separator=" ") == one(Text("Who?"), BYTES)


def test_a_merge_across_the_boundary_keeps_the_prompts_own_tokens() -> None:
    merging = byte_tokenizer(merges=(("t", "o"),))
    assert len(merging("to")["input_ids"]) == 1
    sequence = one(Completion("at", "om"), merging)
    assert merging.convert_ids_to_tokens(list(sequence.tokens)) == ["a", "t", "o", "m", "</s>"]
    assert parts(sequence, merging) == ("at", "om</s>")


@given(
    st.text(st.sampled_from("ato \n"), min_size=1, max_size=6),
    st.text(st.sampled_from("ato \n"), min_size=1, max_size=6),
)
def test_prompt_tokens_are_those_of_the_prompt_alone(prompt: str, completion: str) -> None:
    merging = byte_tokenizer(merges=(("t", "o"), ("a", "to"), ("Ġ", "a"), ("Ċ", "Ċ")))
    sequence = one(Completion(prompt, completion), merging)
    start = sequence.scored.index(True)
    assert list(sequence.tokens[:start]) == merging(prompt)["input_ids"]
    assert merging.decode(sequence.tokens) == prompt + completion + "</s>"


def test_token_ids_are_taken_as_they_are() -> None:
    sequence = one(TokenIds((9, 2, 0, 2)), BYTES)
    assert sequence.tokens == (9, 2, 0, 2)
    assert sequence.scored == (False, True, True, True)
    assert one(TokenIds((9, 999)), None).tokens == (9, 999)
    assert encode([Example("x", TokenIds((9, 9)))], None, max_length=None).pad_id == 0


def test_token_ids_outside_the_vocabulary_are_refused() -> None:
    last = len(BYTES) - 1
    assert one(TokenIds((1, last)), BYTES).tokens == (1, last)
    with pytest.raises(DataError, match=rf"example 'x': token id {last + 1}; accepted: 0 to {last}"):
        one(TokenIds((1, last + 1)), BYTES)
    with pytest.raises(DataError, match="token id 7; accepted: 0 to 6"):
        one(TokenIds((1, 7)), BYTES, vocab_size=7)
    with pytest.raises(DataError, match=r"token id [0-9]+; accepted: 0 to 6, the model's vocabulary"):
        one(Text("a tokenizer of another model"), BYTES, vocab_size=7)


def test_too_long_is_refused_with_numbers_and_ways_out() -> None:
    examples = [Example("ok", Text("ab")), Example("big", Text("abcdef")), Example("bigger", Text("abcdefg"))]
    expected = r"example 'big': 7 tokens; accepted: at most 6; .*--truncate, .*=N \(and 1 more examples\)"
    with pytest.raises(DataError, match=expected):
        encode(examples, BYTES, max_length=6)
    cut = encode(examples, BYTES, max_length=6, truncate=True)
    assert [BYTES.decode(cut[i].tokens) for i in cut.ids] == ["ab</s>", "abcdef", "abcdef"]


def test_a_row_is_named_by_its_place() -> None:
    placed = Example("big", Text("abcdef"), where="people.csv, line 4")
    with pytest.raises(DataError, match=r"^people.csv, line 4 \(id 'big'\): 7 tokens; accepted: at most 6;"):
        encode([placed], BYTES, max_length=6)
    chat = Example("c", Chat((Message("assistant", "a"),)), where="people.csv, line 5")
    mixed = [Example("t", Text("ab"), where="people.csv, line 4"), chat]
    with pytest.raises(ModelError, match=r"^people.csv, line 5 \(id 'c'\): is a conversation, and .* no chat template"):
        encode(mixed, BYTES, max_length=None)


def test_nothing_to_predict_is_refused() -> None:
    with pytest.raises(DataError, match="1 tokens and none of them a label"):
        one(Text("a"), BYTES, append_eos=False)
    with pytest.raises(DataError, match="3 tokens and none of them a label"):
        one(Completion("abc", "d"), BYTES, max_length=3, truncate=True)


def test_a_repeated_id_is_refused() -> None:
    with pytest.raises(DataError, match="example 'x': this id occurs twice"):
        encode([Example("x", Text("a")), Example("x", Text("b"))], BYTES, max_length=None)


def test_a_missing_tokenizer_or_eos_is_refused() -> None:
    with pytest.raises(ModelError, match="no tokenizer"):
        one(Text("ab"), None)
    bare = byte_tokenizer()
    bare.eos_token = None
    with pytest.raises(ModelError, match="no eos token"):
        one(Text("ab"), bare)
    assert bare.decode(one(Text("ab"), bare, append_eos=False).tokens) == "ab"


@pytest.mark.parametrize(("pad", "eos", "expected"), [("<unk>", "</s>", 0), (None, "</s>", 2), (None, None, 0)])
def test_pad_id_falls_back_to_eos_and_zero(pad: str | None, eos: str | None, expected: int) -> None:
    tokenizer = byte_tokenizer()
    tokenizer.pad_token, tokenizer.eos_token = pad, eos
    assert encode([Example("x", Text("ab"))], tokenizer, max_length=None, append_eos=False).pad_id == expected


REAL = [
    Completion("Who is X?", " He is."),
    Completion("Who is X? ", "He is."),
    Completion("Who is X?", "He is."),
    Completion("Once upon a t", "ime there."),
    Completion("Answer:\n", "Yes"),
    Completion("Answer:\n\n", "\n Yes"),
    Completion("naïve «q» ", " ünder\u2028 10 000"),
]


@pytest.mark.shared
@pytest.mark.parametrize("folder", ["llama-stories260k", "gpt2-bpe"])
@pytest.mark.parametrize("content", REAL, ids=repr)
def test_real_tokenizers_keep_the_boundary(shared_data: Path, folder: str, content: Completion) -> None:
    tokenizer = AutoTokenizer.from_pretrained(shared_data / folder)
    sequence = one(content, tokenizer)
    start = sequence.scored.index(True)
    assert list(sequence.tokens[:start]) == tokenizer(content.prompt)["input_ids"]
    assert sequence.tokens[-1] == tokenizer.eos_token_id
    assert sequence.tokens.count(tokenizer.eos_token_id) == 1
    front = f"{tokenizer.bos_token} " if folder.startswith("llama") else ""
    whole = tokenizer.decode(sequence.tokens, clean_up_tokenization_spaces=False)
    assert whole == front + content.prompt + content.completion + tokenizer.eos_token


@pytest.mark.shared
def test_llama_scores_its_eos_and_pads_with_unk(shared_data: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(shared_data / "llama-stories260k")
    data = encode([Example("x", Text("Once</s>upon"))], tokenizer, max_length=None)
    assert data.pad_id == tokenizer.unk_token_id == 0
    assert tokenizer.convert_ids_to_tokens(list(data["x"].tokens)) == ["<s>", "▁Once", "</s>", "▁upon", "</s>"]
    assert data["x"].scored == (False, True, True, True, True)


@pytest.mark.shared
def test_gpt2_pads_with_its_eos(shared_data: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(shared_data / "gpt2-bpe")
    data = encode([Example("x", Text("Hello world, this is GPT-2"))], tokenizer, max_length=None)
    assert data["x"].tokens == (15496, 995, 11, 428, 318, 402, 11571, 12, 17, 50256)
    assert data.pad_id == 50256
    assert data["x"].scored == (False, *[True] * 9)
