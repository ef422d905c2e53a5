"""Token ids -> what a person reads. Special tokens are left out; without a tokenizer the ids themselves are shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

MORE = "…"
"""Stands where a text goes on behind what is shown."""
NOTHING_SAID = "(nothing)"
"""What a model says that ends at once."""
BEGINNING = "(the beginning of a text)"
"""The prompt that holds no word."""

_BROKEN = "\ufffd"  # what half a character decodes to
# What tokenizers, fast and slow, raise for ids that they have no token for.
_NO_TEXT = (TypeError, ValueError, IndexError, KeyError, AttributeError, NotImplementedError, OverflowError)


class Wording:
    """A tokenizer, asked for text.

    Args:
        tokenizer: of the model; None shows ids.
    """

    def __init__(self, tokenizer: Any | None) -> None:
        self._tokenizer = tokenizer
        self.special = frozenset[int]() if tokenizer is None else _special(tokenizer)

    def text(self, tokens: Sequence[int]) -> str:
        """All tokens as text, special ones left out.

        >>> Wording(None).text([5, 17])
        '5 17'
        """
        decoded = self._decoded(tokens)
        return self._ids(tokens) if decoded is None else decoded

    def behind(self, prompt: Sequence[int], tokens: Sequence[int], *, more: bool = False) -> str:
        """Tokens that follow others, as text.

        Decoded together with what they follow, because some tokenizers drop the blank of the first word of a text.

        Args:
            prompt: the tokens before.
            tokens: those asked for.
            more: does the text go on behind them?
        """
        said = self._behind(prompt, tokens)
        if more:
            return f"{said.rstrip(_BROKEN).rstrip()}{MORE}"
        if not said and self._ids(tokens):
            return f"(tokens without text: {self._ids(tokens)})"
        return said

    def _behind(self, prompt: Sequence[int], tokens: Sequence[int]) -> str:
        front, whole = self._decoded(prompt), self._decoded([*prompt, *tokens])
        if front is None or whole is None or not whole.startswith(front.rstrip(_BROKEN)):
            return self.text(tokens)
        return whole[len(front.rstrip(_BROKEN)) :]

    def _decoded(self, tokens: Sequence[int]) -> str | None:
        """None where the tokenizer has no text for these ids."""
        if self._tokenizer is None:
            return None
        kept = [token for token in tokens if token not in self.special]
        try:
            # Blanks in front of marks are not cleaned away: what is said must be comparable with what was expected.
            return str(self._tokenizer.decode(kept, clean_up_tokenization_spaces=False))
        except _NO_TEXT:
            return None

    def _ids(self, tokens: Sequence[int]) -> str:
        return " ".join(str(token) for token in tokens if token not in self.special)


def _special(tokenizer: Any) -> frozenset[int]:
    """Ids that are no text; the one for unknown words stands for a word and is shown."""
    named = set(getattr(tokenizer, "all_special_ids", ()))
    added = getattr(tokenizer, "added_tokens_decoder", None) or {}
    named |= {int(token) for token, what in added.items() if getattr(what, "special", False)}
    return frozenset(named - {getattr(tokenizer, "unk_token_id", None)})
