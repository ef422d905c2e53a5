"""Alternatives: each row to forget with another answer, which the model itself makes up.

Source: Mekala et al. 2025, "Alternate Preference Optimization", arXiv:2409.13474, where a language model is asked in
words for other answers. Here the model before the run is given the question and goes on by itself, without a network:

    v_t ~ softmax(z_t / temperature) without the tokens that would repeat ``gram`` tokens of the answer in a row

so that a row known by heart is left at the latest at its gram-th token. An answer is as long as the row's own at most,
ends where the model ends it, and has the row's closing tokens; special tokens are not drawn, nor is the end at once.
What is asked is told as for refusals (``refusal.py``). The draws are a function of the run's seed and the row's id.
They are kept in the run's folder while it lasts, so that a resumed run has the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from pydantic import Field

from palimpsest.data.draws import random_words
from palimpsest.derived.made import Derived, Made
from palimpsest.derived.refusal import RefusedQuestion, answered_row, closing_of, question_of
from palimpsest.in_words import so_many
from palimpsest.method_card import Config
from palimpsest.models.sealed_json import read_sealed, write_sealed
from palimpsest.models.text_config import most_tokens

if TYPE_CHECKING:
    from torch import Tensor

    from palimpsest.data.encode.batch import ExampleSet, TextSet
    from palimpsest.models.load import Loaded

GROUP_AT_ONCE = 32  # rows whose keys and values stand in memory together
_FILE = "alternative.json"


class AlternativeConfig(Config):
    """Options of alternatives."""

    temperature: float = Field(default=1.0, gt=0)
    """Of the sampling; near 0 the likeliest answer that is allowed."""
    gram: int = Field(default=3, ge=1)
    """So many tokens in a row an alternative never shares with the row's own answer."""
    prompt_share: float = Field(default=0.5, gt=0, lt=1)
    """Of a text without a question: the share of its tokens that stands for one."""


class RowToAnswer(NamedTuple):
    """What is to be answered otherwise.

    Attributes:
        id: of the row.
        question: of it.
        own: its answer, without closing tokens, at least one token.
        closing: the special tokens that end its answer.
    """

    id: str
    question: RefusedQuestion
    own: tuple[int, ...]
    closing: tuple[int, ...]


def wanted_of(row: Any, share: float, special: Collection[int]) -> RowToAnswer:
    """Cut a row into question, answer and closing tokens."""
    question = question_of(row, share)
    closing = closing_of(question.answer, special)
    own = question.answer[: len(question.answer) - len(closing)] or question.answer
    return RowToAnswer(row.id, question, own, closing)


def would_repeat(said: Sequence[int], own: Sequence[int], gram: int) -> frozenset[int]:
    """The tokens that would make ``gram`` tokens in a row of what is said those of the row's own answer.

    Args:
        said: so far.
        own: the row's answer; one that is shorter than ``gram`` is not repeated whole.
        gram: >= 1.

    >>> sorted(would_repeat([5, 6], [5, 6, 7, 6, 8], 2)), sorted(would_repeat([5], [5, 6, 7], 3))
    ([7, 8], [])
    """
    gram = min(gram, len(own))
    if len(said) < gram - 1:
        return frozenset()
    tail = tuple(said[len(said) - gram + 1 :])
    return frozenset(own[k + gram - 1] for k in range(len(own) - gram + 1) if tuple(own[k : k + gram - 1]) == tail)


class Alternative(Derived):
    """The questions of the forget set, each with an answer of the model's own that is not the one to forget."""

    Config = AlternativeConfig
    about = "the rows to forget with another answer, made up by the model"
    sources = ("forget",)
    modalities = ("text",)

    def make(self, loaded: Loaded, sets: Mapping[str, ExampleSet], config: Any, *, seed: int, folder: Path) -> Made:
        """One alternative for each row of forget, paired with it; a resumed run reads them from the run's folder."""
        from palimpsest.data.encode.batch import TextSet

        forget = cast("TextSet", sets["forget"])
        special = {*getattr(loaded.tokenizer, "all_special_ids", ()), *loaded.eos_ids}
        wanted = [wanted_of(forget[i], config.prompt_share, special) for i in forget.ids]
        how = {"special": special, "config": config, "seed": seed}
        drawn = (drawn_otherwise(loaded, group, **how).items() for group in _alike(wanted))
        said = _kept_or_drawn(folder / _FILE, lambda: {i: tokens for one in drawn for i, tokens in one})
        longest = most_tokens(loaded.model)
        rows = [answered_row(alternative_id(w.id), w.question.asked, said[w.id], w.closing, longest) for w in wanted]
        note = f"{so_many(len(rows), 'row')} to forget were given another answer, made up by the model before the run."
        return Made(TextSet(rows, forget.pad_id), {w.id: alternative_id(w.id) for w in wanted}, note)


def alternative_id(example_id: str) -> str:
    """The id of an alternative: another than its row's, because it is another text."""
    return f"alternative to {example_id}"


def _kept_or_drawn(file: Path, draw: Callable[[], dict[str, list[int]]]) -> dict[str, list[int]]:
    """Id of a row -> tokens of its alternative."""
    if file.is_file():
        return dict(read_sealed(file))
    said = draw()
    file.parent.mkdir(parents=True, exist_ok=True)
    write_sealed(file, said)
    return said


def _alike(wanted: Sequence[RowToAnswer]) -> Iterator[list[RowToAnswer]]:
    """Rows whose questions are equally long, a few at a time: they go through a model without padding."""
    by_length: dict[int, list[RowToAnswer]] = {}
    for one in wanted:
        by_length.setdefault(len(one.question.asked), []).append(one)
    for group in by_length.values():
        yield from (group[k : k + GROUP_AT_ONCE] for k in range(0, len(group), GROUP_AT_ONCE))


def drawn_otherwise(
    loaded: Loaded, group: Sequence[RowToAnswer], *, special: Collection[int], config: AlternativeConfig, seed: int
) -> dict[str, list[int]]:
    """Alternatives of rows with equally long questions.

    Args:
        loaded: a causal LM, on its device.
        group: the rows.
        special: tokens that are not drawn; those that end a generation end an answer.
        config: temperature and gram.
        seed: of the run.
    """
    from palimpsest.models.modes import asked

    said: dict[str, list[int]] = {one.id: [] for one in group}
    with asked(loaded.model):
        for logits_BV in _next_logits(loaded, group, said):
            for one, logits_V in zip(group, logits_BV, strict=True):
                spoken = said[one.id]
                barred = {*would_repeat(spoken, one.own, config.gram), *special}
                barred -= loaded.eos_ids if spoken else set()
                (word,) = random_words(seed, f"alternative/{one.id}", len(spoken), 1)
                spoken.append(_drawn(logits_V, barred, config.temperature, word / 2**64))
            if all(len(_answer(said[one.id], loaded.eos_ids, len(one.own))) < len(said[one.id]) for one in group):
                break  # every row has said its end, or more than it may
    return {one.id: _answer(said[one.id], loaded.eos_ids, len(one.own)) for one in group}


def _answer(spoken: Sequence[int], eos_ids: Collection[int], most: int) -> list[int]:
    """What was said up to the first end, so many tokens at most."""
    end = next((k for k, token in enumerate(spoken) if token in eos_ids), len(spoken))
    return list(spoken[: min(end, most)])


def _next_logits(loaded: Loaded, group: Sequence[RowToAnswer], said: Mapping[str, list[int]]) -> Iterator[Tensor]:
    """What the model says next, (B, V) on the CPU, as long as who asks appends a token to each row."""
    import torch

    from palimpsest.models.caches import Continuing

    longest, continuing = most_tokens(loaded.model), Continuing(loaded.model)
    room = max(len(one.own) for one in group)
    kept = len(group[0].question.asked) if longest is None else max(1, longest - room)
    asked_BT = torch.tensor([one.question.asked[-kept:] for one in group])
    for step in range(room):
        new_BT = torch.tensor([said[one.id] for one in group], dtype=torch.long).reshape(len(group), step)
        yield continuing.next_logits(torch.cat([asked_BT, new_BT], 1))


def _drawn(logits_V: Tensor, barred: Collection[int], temperature: float, uniform: float) -> int:
    """The token at a place between 0 and 1 of the distribution without the barred ones."""
    import torch

    free_V = (logits_V.double() / temperature).clone()
    free_V[[token for token in barred if token < len(free_V)]] = -math.inf
    cumulative_V = torch.softmax(free_V, -1).cumsum(-1)
    token = int(torch.searchsorted(cumulative_V, uniform * float(cumulative_V[-1]), right=True))
    return min(token, int(torch.isfinite(free_V).nonzero()[-1]))


DERIVED = Alternative()
