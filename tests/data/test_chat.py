from __future__ import annotations

from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from palimpsest.data.encode.chat import chat_tokens
from palimpsest.data.encode.text import encode
from palimpsest.errors import DataError, ModelError
from palimpsest.records import Chat, Example, Message

END = "<|end|>"
PLAIN = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
MARKED = (
    "{% for m in messages %}<|{{ m.role }}|>{% if m.role == 'assistant' %}{% generation %}{{ m.content }}<|end|>"
    "{% endgeneration %}{% else %}{{ m.content }}<|end|>{% endif %}{{ '\\n' }}{% endfor %}"
)
FORGETFUL = (
    "{% for m in messages %}<|{{ m.role }}|>"
    "{% if m.role == 'assistant' and not loop.last %}(cut){% else %}{{ m.content }}{% endif %}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
PICKY = "{% for m in messages %}{{ raise_exception('only system turns\\nplease') if m.role != 'system' }}{% endfor %}"
TURNS = (
    Message("system", "be kind"),
    Message("user", "hi"),
    Message("assistant", "yo"),
    Message("user", "why?"),
    Message("assistant", "so yo"),
)


def byte_tokenizer(template: str | None, merges: tuple[tuple[str, str], ...] = ()) -> PreTrainedTokenizerFast:
    special = ["<unk>", END, "<|user|>", "<|assistant|>", "<|system|>"]
    names = [*special, *sorted(pre_tokenizers.ByteLevel.alphabet()), *(a + b for a, b in merges)]
    inner = Tokenizer(models.BPE({name: i for i, name in enumerate(names)}, list(merges), unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    inner.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, eos_token=END, unk_token="<unk>", pad_token=END, extra_special_tokens=special[2:]
    )
    tokenizer.chat_template = template
    return tokenizer


def scored_runs(tokens: list[int], flags: list[bool], tokenizer: Any) -> list[str]:
    """Decoded runs of consecutive label tokens."""
    runs: list[list[int]] = []
    for previous, flag, token in zip([False, *flags], flags, tokens, strict=False):
        if flag and not previous:
            runs.append([])
        if flag:
            runs[-1].append(token)
    return [tokenizer.decode(run) for run in runs]


def test_generation_markers_say_what_is_scored() -> None:
    tokenizer = byte_tokenizer(MARKED)
    tokens, flags = chat_tokens(TURNS, tokenizer)
    assert scored_runs(tokens, flags, tokenizer) == ["yo<|end|>", "so yo<|end|>"]
    assert tokenizer.decode(tokens).startswith("<|system|>be kind<|end|>\n<|user|>hi<|end|>")


def test_markers_agree_with_the_librarys_own_mask() -> None:
    tokenizer = byte_tokenizer(MARKED)
    theirs = tokenizer.apply_chat_template(
        [turn._asdict() for turn in TURNS], return_dict=True, return_assistant_tokens_mask=True
    )
    tokens, flags = chat_tokens(TURNS, tokenizer)
    assert tokens == theirs["input_ids"]
    assert [int(flag) for flag in flags] == theirs["assistant_masks"]


def test_without_markers_the_prefixes_say_it() -> None:
    tokenizer = byte_tokenizer(PLAIN)
    tokens, flags = chat_tokens(TURNS, tokenizer)
    assert scored_runs(tokens, flags, tokenizer) == ["yo<|end|>\n", "so yo<|end|>\n"]
    assert tokens == tokenizer.apply_chat_template([turn._asdict() for turn in TURNS], return_dict=False)


def test_a_token_that_begins_in_the_header_is_scored() -> None:
    template = (
        "{% for m in messages %}{% if m.role == 'assistant' %}A: {% generation %}{{ m.content }}{% endgeneration %}"
        "{% else %}U: {{ m.content }} {% endif %}{% endfor %}"
    )
    tokenizer = byte_tokenizer(template, merges=(("Ġ", "y"),))
    tokens, flags = chat_tokens((Message("user", "q"), Message("assistant", "yo")), tokenizer)
    assert scored_runs(tokens, flags, tokenizer) == [" yo"]


def test_an_answer_that_ends_in_a_dropped_character_does_not_leak_into_the_next_turn() -> None:
    names = {name: i for i, name in enumerate(["[U]", "U:", "A:", "hi", "yo", END])}
    inner = Tokenizer(models.WordLevel(names, unk_token="[U]"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="[U]", eos_token=END)
    tokenizer.chat_template = (
        "{% for m in messages %}{% if m.role == 'assistant' %}A: {% generation %}{{ m.content }} <|end|>\n"
        "{% endgeneration %}{% else %}U: {{ m.content }}\n{% endif %}{% endfor %}"
    )
    turns = (Message("user", "hi"), Message("assistant", "yo"), Message("user", "hi"), Message("assistant", "yo"))
    tokens, flags = chat_tokens(turns, tokenizer)
    assert tokenizer.convert_ids_to_tokens(tokens) == ["U:", "hi", "A:", "yo", END] * 2
    assert flags == [False, False, False, True, True] * 2


def test_chat_rows_are_encoded_without_a_second_eos() -> None:
    tokenizer = byte_tokenizer(MARKED)
    sequence = encode([Example("x", Chat(TURNS))], tokenizer, max_length=None)["x"]
    assert list(sequence.tokens) == chat_tokens(TURNS, tokenizer)[0]
    assert sum(sequence.scored) == len("yo") + len("so yo") + 2
    with pytest.raises(DataError, match="example 'x': 5 tokens and none of them a label"):
        encode([Example("x", Chat(TURNS))], tokenizer, max_length=5, truncate=True)


def test_what_cannot_be_scored_is_refused() -> None:
    with pytest.raises(ModelError, match=r"no chat template; put one into the model\'s folder as chat_template\.jinja"):
        chat_tokens(TURNS, byte_tokenizer(None))
    with pytest.raises(ModelError, match="rewrites the assistant.s turns"):
        chat_tokens(TURNS, byte_tokenizer(FORGETFUL))
    with pytest.raises(DataError, match=r"refuses these messages \(only system turns please\)"):
        chat_tokens(TURNS, byte_tokenizer(PICKY))
    with pytest.raises(DataError, match="starts with the assistant"):
        chat_tokens(TURNS[2:], byte_tokenizer(PLAIN))
    tokens, flags = chat_tokens(TURNS[2:3], byte_tokenizer(MARKED))
    assert flags == [False, *[True] * (len(tokens) - 2), False]
