"""Examples -> token sequences. Which tokens are labels is decided here and in chat.py, and nowhere else.

| content    | scored tokens                                                          |
|------------|------------------------------------------------------------------------|
| text       | every token after the first, the closing eos included                  |
| completion | the completion and one closing eos; the prompt is not                  |
| chat       | the assistant's turns with the template's end-of-turn token (chat.py)  |
| token ids  | every token after the first, as given                                  |

Padding is never a label because labels are flags of true tokens; no token id ever is, so pad may equal eos or unk.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

from palimpsest.data.ahead import TokensAhead
from palimpsest.data.encode.batch import TextSet, TokenSequence
from palimpsest.data.encode.chat import chat_tokens, rendering
from palimpsest.data.encode.long_texts import check_size, longest_text, size_of
from palimpsest.data.problems import Problems, refuse_twice
from palimpsest.errors import DataError, ModelError
from palimpsest.records import Chat, Completion, Content, Example, Image, Labelled, Text, TokenIds

TOGETHER = 1000  # examples that are tokenised by one call


def encode(
    examples: Sequence[Example],
    tokenizer: Any | None,
    *,
    max_length: int | None,
    append_eos: bool = True,
    truncate: bool = False,
    vocab_size: int | None = None,
    separator: str = "",
) -> TextSet:
    """Tokenise examples and mark their label tokens.

    Args:
        examples: N of them, ids unique.
        tokenizer: of the model; None is enough for ready-made token ids.
        max_length: most tokens a sequence may have; None for no limit.
        append_eos: end texts and completions with the tokenizer's eos, unless they end with it already.
        truncate: cut longer sequences at the end instead of refusing them.
        separator: stands between a prompt and its completion, and is scored with the completion.
        vocab_size: of the model; default: the tokenizer's, and then only ready-made token ids are held against it.

    Returns:
        N token sequences, in order.

    Raises:
        DataError: which example is too long, has no label token, or a token id outside the vocabulary; how many more.
        ModelError: the tokenizer lacks an eos token or a chat template that is needed.
    """
    limit = longest_text(max_length, truncate=truncate)
    encoder = _Encoder(tokenizer, append_eos, separator)
    sequences: list[TokenSequence] = []
    problems = Problems()
    seen: set[str] = set()
    with rendering():
        for position, example in enumerate(examples):
            if position % TOGETHER == 0:
                together = examples[position : position + TOGETHER]
                encoder.read_ahead([e for e in together if size_of(e.content) <= limit])
            with problems.of(example.name):
                refuse_twice(example.id, seen)
                seen.add(example.id)
                check_size(example.content, limit)
                tokens, scored = encoder.tokens(example)
                _check_vocabulary(
                    tokens, _vocabulary(tokenizer, vocab_size, given=isinstance(example.content, TokenIds))
                )
                sequences.append(_fit(example.id, tokens, scored, max_length=max_length, truncate=truncate))
    problems.refuse()
    return TextSet(sequences, _pad_id(tokenizer, vocab_size))


def _vocabulary(tokenizer: Any | None, vocab_size: int | None, *, given: bool) -> int | None:
    # A tokenizer's own ids may have gaps and exceed its length, so only given ids are held against the length.
    return len(tokenizer) if vocab_size is None and tokenizer is not None and given else vocab_size


def _check_vocabulary(tokens: Sequence[int], vocab_size: int | None) -> None:
    if vocab_size is not None and max(tokens, default=0) >= vocab_size:
        raise DataError(f"token id {max(tokens)}; accepted: 0 to {vocab_size - 1}, the model's vocabulary")


def _pad_id(tokenizer: Any | None, vocab_size: int | None) -> int:
    # A pad token that was added to a tokenizer has no row in an embedding that did not grow with it, and padding is
    # masked: any id inside will do.
    candidates = (getattr(tokenizer, name, None) for name in ("pad_token_id", "eos_token_id"))
    known = (int(token) for token in candidates if token is not None)
    return next((token for token in known if vocab_size is None or token < vocab_size), 0)


def _fit(
    example_id: str, tokens: list[int], scored: list[bool], *, max_length: int | None, truncate: bool
) -> TokenSequence:
    if max_length is not None and len(tokens) > max_length:
        if not truncate:
            raise DataError(
                f"{len(tokens)} tokens; accepted: at most {max_length}; shorten it, cut such rows with --truncate, or "
                "set another limit with --set encoding.max_length=N"
            )
        tokens, scored = tokens[:max_length], scored[:max_length]
    scored = [False, *scored[1:]]
    if not any(scored):
        raise DataError(f"{len(tokens)} tokens and none of them a label; accepted: at least one token to predict")
    return TokenSequence(example_id, tuple(tokens), tuple(scored))


def _around(tokens: list[int], plain: list[int]) -> tuple[list[int], list[int], list[int]]:
    """A text's tokens, cut into the special ones added in front, its own, and those added behind.

    >>> _around([1, 1, 7, 2], [1, 7])
    ([1], [1, 7], [2])
    """
    starts = range(len(tokens) - len(plain) + 1)
    first = next((k for k in starts if tokens[k : k + len(plain)] == plain), None)
    if first is None:  # a tokenizer that reads a text otherwise between special tokens
        return [], tokens, []
    return tokens[:first], plain, tokens[first + len(plain) :]


def _begins(tokens: list[int], front: list[int]) -> bool:
    return tokens[: len(front)] == front


def _ends(tokens: list[int], back: list[int]) -> bool:
    return not back or tokens[-len(back) :] == back


class _Encoder:
    """A tokenizer with the options of one call."""

    def __init__(self, tokenizer: Any | None, append_eos: bool, separator: str) -> None:
        self._given = tokenizer
        self._append_eos = append_eos
        self._separator = separator
        self._ahead = TokensAhead(tokenizer)

    def read_ahead(self, examples: Sequence[Example]) -> None:
        """Have the texts of these examples tokenised by one call. What is wrong with one is said when it is asked."""
        contents = [example.content for example in examples]
        self._ahead.read(
            [text for content in contents for text in self._beginnings(content)],
            [content.messages for content in contents if isinstance(content, Chat)],
        )

    def _beginnings(self, content: Content) -> list[str]:
        """Texts that begin a sequence, of those that an example needs."""
        if isinstance(content, Text):
            return [content.text]
        if isinstance(content, Completion):
            return [content.prompt, content.prompt + self._separator + content.completion]
        return []

    def tokens(self, example: Example) -> tuple[list[int], list[bool]]:
        """Token ids and label flags; the first flag is not yet cleared."""
        content = example.content
        if isinstance(content, Text):
            tokens = self._close(self._whole(content.text)[0])
            return tokens, [True] * len(tokens)
        if isinstance(content, Completion):
            return self._completion(Completion(content.prompt, self._separator + content.completion))
        if isinstance(content, Chat):
            try:
                return self._ahead.chats.get(content.messages) or chat_tokens(content.messages, self._tokenizer)
            except ModelError as problem:
                # Rows of several kinds may be in one file: which is the first that this model cannot take?
                raise ModelError(f"{example.name}: is a conversation, and {problem}") from problem
        if isinstance(content, Image):
            raise DataError("an image for a causal LM; accepted: rows of text, or an image classifier as the model")
        if isinstance(content, Labelled):
            raise DataError("a text with a label for a causal LM; accepted: rows of text, or a classifier of texts")
        return list(content.input_ids), [True] * len(content.input_ids)

    @property
    def _tokenizer(self) -> Any:
        if self._given is None:
            raise ModelError("the model has no tokenizer; give a folder that has one, or rows of token ids")
        return self._given

    def _ids(self, text: str) -> list[int]:
        """Tokens of a text without special ones."""
        return list(self._tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    def _whole(self, text: str) -> tuple[list[int], list[int]]:
        """Tokens of a text with the tokenizer's special ones, and which these are.

        Special ones that the text already begins or ends with are not added again.
        """
        tokens, added = self._encoded(text)
        if not self._holds_special(text):
            return tokens, added
        front, own, back = _around(tokens, self._ids(text))
        front, back = [] if _begins(own, front) else front, [] if _ends(own, back) else back
        return [*front, *own, *back], [1] * len(front) + [0] * len(own) + [1] * len(back)

    def _encoded(self, text: str) -> tuple[list[int], list[int]]:
        """What the tokenizer says of a text: its tokens, and which it added."""
        if text in self._ahead.texts:
            tokens, added = self._ahead.texts[text]
            return list(tokens), list(added)
        encoded = self._tokenizer(text, return_special_tokens_mask=True, verbose=False)
        return list(encoded["input_ids"]), list(encoded["special_tokens_mask"])

    def _holds_special(self, text: str) -> bool:
        """Does a text begin or end with one? Nearly none does, and is then not tokenised twice."""
        return text.startswith(self._special) or text.endswith(self._special)

    @cached_property
    def _special(self) -> tuple[str, ...]:
        return tuple(map(str, self._tokenizer.all_special_tokens))

    def _close(self, tokens: list[int]) -> list[int]:
        """Tokens that end in one eos."""
        eos = self._eos() if self._append_eos else None
        return tokens if eos is None or tokens[-1:] == [eos] else [*tokens, eos]

    def _eos(self) -> int:
        eos = self._tokenizer.eos_token_id
        if eos is None:
            raise ModelError(
                "the tokenizer has no eos token, which ends texts and completions; set eos_token in the model's "
                "tokenizer_config.json, or give rows of token ids"
            )
        return int(eos)

    def _open(self, text: str) -> list[int]:
        """Tokens of the beginning of a sequence: the tokenizer's special tokens in front, none behind."""
        tokens, added = self._whole(text)
        while added and added[-1]:
            tokens.pop()
            added.pop()
        return tokens

    def _completion(self, content: Completion) -> tuple[list[int], list[bool]]:
        prompt = self._open(content.prompt)
        whole = self._open(content.prompt + content.completion)
        if whole[: len(prompt)] != prompt or len(whole) == len(prompt):
            # A merge runs across the boundary. When the model is asked the prompt alone it sees the prompt's own
            # tokens, so these are kept and the completion is tokenised apart.
            whole = prompt + self._continuation(content)
        tokens = self._close(whole)
        return tokens, [position >= len(prompt) for position in range(len(tokens))]

    def _continuation(self, content: Completion) -> list[int]:
        """The completion's own tokens, chosen so that prompt and completion decode to exactly their text."""
        prompt = self._ids(content.prompt)
        candidates = list(self._apart(content.completion))
        for candidate in candidates:
            text = self._tokenizer.decode(prompt + candidate, clean_up_tokenization_spaces=False)
            if text.endswith(content.completion) and text.strip() == (content.prompt + content.completion).strip():
                return candidate
        return candidates[0]

    def _apart(self, completion: str) -> Iterator[list[int]]:
        """Ways to tokenise a text that does not begin a sequence.

        SentencePiece-like tokenizers put a blank before every text; behind a line break they do not.
        """
        plain = self._ids(completion)
        yield plain
        anchor, anchored = self._ids("\n"), self._ids("\n" + completion)
        if anchored[: len(anchor)] == anchor:
            yield anchored[len(anchor) :]
