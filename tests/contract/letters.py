"""A tokenizer of single letters: every sentence is a few tokens of the toy model's vocabulary."""

from __future__ import annotations

from string import ascii_lowercase

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

SPECIAL = ("<pad>", "<bos>", "<eos>", "<unk>")


def letters() -> PreTrainedTokenizerFast:
    """35 tokens: four special ones, the letters in lower case, and some marks."""
    words = {word: n for n, word in enumerate((*SPECIAL, *ascii_lowercase, " ", ".", ",", ";", "'"))}
    inner = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    inner.normalizer = normalizers.Lowercase()
    inner.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    inner.decoder = decoders.Fuse()
    names = dict(zip(("pad_token", "bos_token", "eos_token", "unk_token"), SPECIAL, strict=True))
    return PreTrainedTokenizerFast(tokenizer_object=inner, **names)
