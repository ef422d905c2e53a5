"""Tokens as a person reads them, through the tokenizers that make it hard."""

from __future__ import annotations

import pytest
from tests.data.test_chat import END, byte_tokenizer
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from palimpsest.audit.wording import MORE, Wording


def sentencepiece() -> PreTrainedTokenizerFast:
    """As llama's: a blank before every text, which decoding takes away again."""
    pieces = ["<unk>", "<s>", "</s>", "▁Where", "▁is", "▁it", "?", "▁In", "▁Basel", "."]
    inner = Tokenizer(models.WordLevel({piece: i for i, piece in enumerate(pieces)}, unk_token="<unk>"))
    inner.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    inner.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    inner.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    return PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def test_the_blank_of_the_first_word_is_kept() -> None:
    wording = Wording(sentencepiece())
    assert wording.text([7, 8, 9]) == "In Basel."
    assert wording.behind([1, 3, 4, 5, 6], [7, 8, 9, 2], more=False) == " In Basel."


def test_special_tokens_are_left_out_and_unknown_words_are_not() -> None:
    wording = Wording(sentencepiece())
    assert wording.special == {1, 2}
    assert wording.text([1, 7, 0, 2]) == "In<unk>"


def test_turn_markers_are_special_too() -> None:
    tokenizer = byte_tokenizer(None)
    tokens = tokenizer(f"<|user|>hi{END}")["input_ids"]
    assert len(tokens) == 4
    assert Wording(tokenizer).text(tokens) == "hi"


def test_half_a_character_at_the_end_of_the_prompt_is_made_whole_by_what_follows() -> None:
    tokenizer = byte_tokenizer(None)
    tokens = tokenizer("aé b")["input_ids"]
    assert len(tokens) == 5
    assert Wording(tokenizer).behind(tokens[:2], tokens[2:], more=False) == "é b"


def test_half_a_character_at_the_cut_is_left_out() -> None:
    tokenizer = byte_tokenizer(None)
    tokens = tokenizer("ab é")["input_ids"]
    assert Wording(tokenizer).behind(tokens[:1], tokens[1:-1], more=True) == f"b{MORE}"


def test_without_a_tokenizer_the_ids_are_the_text() -> None:
    assert Wording(None).behind([1, 2], [3, 14, 15], more=True) == f"3 14 15{MORE}"


class Refuses:
    all_special_ids = (0,)
    unk_token_id = None

    def __init__(self, error: Exception) -> None:
        self.error = error

    def decode(self, tokens, **_):
        raise self.error


@pytest.mark.parametrize("error", [IndexError("piece id is out of range"), TypeError("None"), OverflowError("-1")])
def test_ids_that_a_tokenizer_refuses_are_shown_as_ids(error: Exception) -> None:
    assert Wording(Refuses(error)).behind([1, 2], [3, 14, 0], more=False) == "3 14"


def test_ids_without_any_text_are_named() -> None:
    assert Wording(byte_tokenizer(None)).behind([5], [9998, 9999], more=False) == "(tokens without text: 9998 9999)"
