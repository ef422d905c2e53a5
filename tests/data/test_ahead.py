"""Texts that are tokenised together have the tokens and flags that each has alone."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from palimpsest.data.ahead import TokensAhead
from palimpsest.data.encode import text as text_module
from palimpsest.data.encode.text import encode
from palimpsest.errors import DataError, ModelError
from palimpsest.records import Chat, Completion, Content, Example, Message, Text, TokenIds

SPECIAL = ["<unk>", "<s>", "</s>"]
MERGES = [("a", "b"), ("\u0120", "a"), ("b", "\u0120"), ("\u0120", "\u0120"), ("ab", "b")]
CHAT = (
    "{% for m in messages %}{{ m.role }}: {% if m.role == 'assistant' %}{% generation %}{{ m.content }}</s>"
    "{% endgeneration %}{% else %}{{ m.content }}{% endif %}\n{% endfor %}"
)
ODD = ["", " ", "\n", "  a", "a  ", "ab b", "</s>", "a</s>b", "<s>ab", "\x00", "a\r\nb", "ab" * 40]
ODD += ["\u00e9", "e\u0301", "\u3042\u3044", "\U0001f9ea\u200d\U0001f4c4"]


class Counting(PreTrainedTokenizerFast):
    """A tokenizer that counts its calls."""

    calls = 0

    def __call__(self, *given: Any, **options: Any) -> Any:
        type(self).calls += 1
        return super().__call__(*given, **options)


def byte_level(template: str | None = None) -> Counting:
    """Byte-level BPE whose merges cross words; pad is eos."""
    names = [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet()), *dict.fromkeys(a + b for a, b in MERGES)]
    inner = Tokenizer(models.BPE({name: i for i, name in enumerate(names)}, MERGES, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    inner.decoder = decoders.ByteLevel()
    if template:
        inner.post_processor = processors.TemplateProcessing(single=template, special_tokens=[("<s>", 1), ("</s>", 2)])
    return _wrapped(inner)


def blank_in_front() -> Counting:
    """Puts a blank before every text, as SentencePiece does."""
    letters = sorted({c for text in ODD for c in text} | set("abcdefghijklmnopqrstuvwxyz:\n"))
    names = [*SPECIAL, "\u2581", *letters]
    inner = Tokenizer(models.BPE({name: i for i, name in enumerate(dict.fromkeys(names))}, [], unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=False)
    inner.decoder = decoders.Metaspace(prepend_scheme="always", split=False)
    return _wrapped(inner)


def _wrapped(inner: Tokenizer) -> Counting:
    tokenizer = Counting(tokenizer_object=inner, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="</s>")
    tokenizer.chat_template = CHAT
    return tokenizer


TOKENIZERS = {
    "bytes": byte_level(),
    "bos": byte_level("<s> $A"),
    "both": byte_level("<s> $A </s>"),
    "blank": blank_in_front(),
}
some_text = st.sampled_from(ODD) | st.text(alphabet="ab \n\u00e9<s>/", max_size=12)
some_turn = st.tuples(st.sampled_from(["user", "assistant", "system"]), some_text).map(lambda pair: Message(*pair))
some_content = (
    some_text.map(Text)
    | st.tuples(some_text, some_text).map(lambda pair: Completion(*pair))
    | st.lists(some_turn, min_size=1, max_size=4).map(lambda turns: Chat(tuple(turns)))
    | st.just(TokenIds((5, 6, 7)))
)


def encoded(contents: list[Content], tokenizer: Any, **how: Any) -> Any:
    """Rows as tokens and flags, or what is said instead."""
    examples = [Example(str(i), content) for i, content in enumerate(contents)]
    try:
        rows = encode(examples, tokenizer, max_length=None, **how)
    except (DataError, ModelError) as error:
        return str(error)
    return [rows[example.id] for example in examples]


@pytest.fixture
def row_by_row(monkeypatch: pytest.MonkeyPatch) -> Any:
    """``encoded``, with a call of the tokenizer for each text."""

    def alone(*given: Any, **how: Any) -> Any:
        with monkeypatch.context() as without:
            without.setattr(TokensAhead, "read", lambda self, texts, chats: None)
            return encoded(*given, **how)

    return alone


@pytest.mark.parametrize("name", list(TOKENIZERS))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(contents=st.lists(some_content, min_size=1, max_size=9), separator=st.sampled_from(["", " "]))
def test_together_is_as_row_by_row(name: str, row_by_row: Any, contents: list[Content], separator: str) -> None:
    tokenizer = TOKENIZERS[name]
    assert encoded(contents, tokenizer, separator=separator) == row_by_row(contents, tokenizer, separator=separator)


@pytest.mark.parametrize("name", list(TOKENIZERS))
def test_every_odd_text_beside_all_others(name: str, row_by_row: Any) -> None:
    long_enough = [Text(f"{text}a") for text in ODD] + [Completion(one, f"{other}b") for one in ODD for other in ODD]
    assert (found := encoded(long_enough, TOKENIZERS[name])) == row_by_row(long_enough, TOKENIZERS[name])
    assert len(found) == len(long_enough)


def test_a_thousand_texts_are_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = byte_level()
    monkeypatch.setattr(Counting, "calls", 0)
    assert len(encoded([Text(f"a{i}") for i in range(2500)], tokenizer)) == 2500
    assert Counting.calls == 3
    chats = [Chat((Message("user", f"a{i}"), Message("assistant", "b"))) for i in range(30)]
    assert len(encoded([*chats, *(Completion(f"a{i}", "b") for i in range(30))], tokenizer)) == 60
    assert Counting.calls == 5


def test_the_rows_of_one_call_need_not_fit_the_model_to_be_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """The third row is refused, by its own name; chunks of two, so that a boundary lies before it."""
    monkeypatch.setattr(text_module, "TOGETHER", 2)
    rows = [Text("ba"), Text("bba"), Text(""), Text("ba")]
    assert encoded(rows, byte_level(), append_eos=False).startswith("example '2': 0 tokens")
