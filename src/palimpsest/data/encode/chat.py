"""Conversations -> token ids and label flags, through the tokenizer's own chat template.

With ``{% generation %}`` markers the template itself says what the assistant wrote. Without them the conversation
is rendered turn by turn: what a turn of the assistant adds, behind the generation prompt, is what was written. A
template that renders earlier turns otherwise (without their thoughts, with the system's words in the last turn), or
puts words into the generation prompt alone, is asked once more for each turn, with a mark in place of its words: where
the mark stands, the words do, and what closes the turn follows.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from itertools import count
from typing import Any

from transformers.utils.chat_template_utils import render_jinja_template

from palimpsest.data.encode.apart import Apart
from palimpsest.errors import DataError, ModelError
from palimpsest.records import Message
from palimpsest.untrusted import refusing

Turns = tuple[Message, ...]
Flagged = tuple[list[int], list[bool]]

_TEMPLATE = "the chat template"
_OPEN: ContextVar[dict[int, Apart] | None] = ContextVar("processes that render templates", default=None)
_LOST = (
    "the chat template rewrites the assistant's turns, so that their tokens cannot be found; put {% generation %} "
    "markers into the template"
)
_MARKER = re.compile(r"\{%-?\s*generation\s*-?%\}")


def chat_tokens(messages: Sequence[Message], tokenizer: Any) -> Flagged:
    """Tokens of a conversation; the assistant's turns, end-of-turn token included, are flagged.

    Args:
        messages: the turns.
        tokenizer: a fast tokenizer with a chat template.

    Returns:
        T token ids and T flags.

    Raises:
        ModelError: no template, no fast tokenizer, or a template that puts a turn's words nowhere, or in two places.
        DataError: the template refuses this conversation.
    """
    whole, spans = _rendered(messages, tokenizer)
    return _flagged([whole], [spans], tokenizer)[0]


def chat_tokens_ahead(conversations: Iterable[Turns], tokenizer: Any) -> dict[Turns, Flagged]:
    """``chat_tokens`` of many conversations, by one call of the tokenizer.

    Args:
        conversations: the turns of each.
        tokenizer: of the model.

    Returns:
        Turns -> their tokens and flags; without those that ``chat_tokens`` refuses.
    """
    found = {}
    for turns in conversations:
        try:
            found[turns] = _rendered(turns, tokenizer)
        except (DataError, ModelError):  # said when it is that row's turn
            continue
    texts, spans = zip(*found.values(), strict=True) if found else ((), ())
    return dict(zip(found, _flagged(texts, spans, tokenizer), strict=True))


def _rendered(messages: Sequence[Message], tokenizer: Any) -> tuple[str, list[tuple[int, int]]]:
    """A conversation as one text, and which characters of it the assistant wrote."""
    if not tokenizer.chat_template:
        raise ModelError(
            "the tokenizer has no chat template; put one into the model's folder as chat_template.jinja, or give "
            "rows of {prompt, completion}"
        )
    if not tokenizer.is_fast:
        raise ModelError(f"{type(tokenizer).__name__} gives no character offsets; chat rows need a fast tokenizer")
    with _renderer(tokenizer) as render:
        whole, spans = render([message._asdict() for message in messages])
    return whole, [(first, last) for first, last in spans]


@contextmanager
def rendering() -> Iterator[None]:
    """In the block, the process that renders templates is started once."""
    token = _OPEN.set({})
    try:
        yield
    finally:
        for renderer in (_OPEN.get() or {}).values():
            renderer.close()
        _OPEN.reset(token)


@contextmanager
def _renderer(tokenizer: Any) -> Iterator[Apart]:
    """What renders a tokenizer's template, which is the code of whoever made its folder."""
    opened = _OPEN.get()
    if opened is not None:
        if id(tokenizer) not in opened:
            opened[id(tokenizer)] = Apart(partial(_found, tokenizer), _TEMPLATE)
        yield opened[id(tokenizer)]
        return
    renderer = Apart(partial(_found, tokenizer), _TEMPLATE)
    try:
        yield renderer
    finally:
        renderer.close()


def _found(tokenizer: Any, turns: list[dict[str, str]]) -> tuple[str, list[tuple[int, int]]]:
    find = _marked if _MARKER.search(tokenizer.get_chat_template()) else _compared
    return find(turns, tokenizer)


def _flagged(texts: Sequence[str], spans: Sequence[list[tuple[int, int]]], tokenizer: Any) -> list[Flagged]:
    if not texts:
        return []
    with refusing(unread):
        encoded = tokenizer(list(texts), add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    rows = zip(encoded["input_ids"], encoded["offset_mapping"], spans, strict=True)
    return [(list(ids), [_is_inside(start, end, own) for start, end in offsets]) for ids, offsets, own in rows]


def unread(reason: str) -> ModelError:
    """What a tokenizer's own failure becomes: its rules come from a file of others."""
    return ModelError(f"the tokenizer cannot read these texts ({reason}); give the tokenizer that the model came with")


def _marked(turns: list[dict[str, str]], tokenizer: Any) -> tuple[str, list[tuple[int, int]]]:
    # The mask of apply_chat_template flags everything behind an answer whose last character belongs to no token (a
    # line break under a word-level tokenizer), the next user turns included; so only the characters are taken from it.
    rendered, spans = render_jinja_template(
        conversations=[turns],
        chat_template=tokenizer.get_chat_template(),
        return_assistant_tokens_mask=True,
        **tokenizer.special_tokens_map,
    )
    return rendered[0], spans[0]


def _compared(turns: list[dict[str, str]], tokenizer: Any) -> tuple[str, list[tuple[int, int]]]:
    if turns[0]["role"] == "assistant":
        raise DataError("the conversation starts with the assistant; accepted: a user or system turn first")
    whole = _render(turns, tokenizer, prompt=False)
    written = [index for index, turn in enumerate(turns) if turn["role"] == "assistant"]
    added = [_added(turns, index, whole, tokenizer) for index in written]
    spans = [span for span in added if span is not None]
    if len(spans) < len(written):  # all turns by one rule
        spans = [_marked_place(turns, index, whole, tokenizer) for index in written]
    return whole, spans


def _is_inside(start: int, end: int, spans: Sequence[tuple[int, int]]) -> bool:
    """Does a token hold a character of a span? One that begins in the header (" yes" behind "A:") does."""
    return any(start < last and (end > first or start >= first) for first, last in spans)


def _added(turns: list[dict[str, str]], index: int, whole: str, tokenizer: Any) -> tuple[int, int] | None:
    """Characters of the whole conversation that a turn added behind its prompt; None where it changed others, too."""
    before = _render(turns[:index], tokenizer, prompt=True)
    after = _render(turns[: index + 1], tokenizer, prompt=False)
    return (len(before), len(after)) if after.startswith(before) and whole.startswith(after) else None


def _marked_place(turns: list[dict[str, str]], index: int, whole: str, tokenizer: Any) -> tuple[int, int]:
    """Characters of a turn's own words and of what closes the turn."""
    mark = next(word for n in count() if (word := f"Mark{n}Here") not in whole)
    head, tail = _around_mark([*turns[:index], turns[index] | {"content": mark}, *turns[index + 1 :]], mark, tokenizer)
    _, alone = _around_mark([*turns[:index], turns[index] | {"content": mark}], mark, tokenizer)
    start = _alike(head, whole)
    stop = len(whole) - _alike(tail[::-1], whole[start:][::-1])
    exact = start == len(head) and stop == len(whole) - len(tail)
    if not exact and turns[index]["content"].strip() not in whole[start:stop]:
        raise ModelError(_LOST)
    return start, stop + len(_closing(whole[stop:], alone, tokenizer))


def _around_mark(turns: list[dict[str, str]], mark: str, tokenizer: Any) -> tuple[str, str]:
    parts = _render(turns, tokenizer, prompt=False).split(mark)
    if len(parts) != 2:
        raise ModelError(_LOST)
    return parts[0], parts[1]


def _closing(behind: str, alone: str, tokenizer: Any) -> str:
    """What ends a turn: the special token that follows its words, else what follows them in any company."""
    special = next((token for token in tokenizer.get_added_vocab() if token and behind.startswith(token)), None)
    return behind[: _alike(behind, alone)].rstrip() if special is None else special


def _alike(one: str, other: str) -> int:
    """How many characters two texts begin with alike."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((k for k, (a, b) in pairs if a != b), min(len(one), len(other)))


def _render(turns: list[dict[str, str]], tokenizer: Any, *, prompt: bool) -> str:
    return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=prompt))
