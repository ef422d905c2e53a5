"""The greedy continuations of several prompts at once, each as a model gives it to the prompt alone.

Shape legend: R rows still going on, N next places of a row, K last places of a pass, V vocabulary.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from palimpsest.data.encode.batch import TextBatch, TokenSequence, collate
from palimpsest.data.encode.borders import borders_of
from palimpsest.errors import DivergedError
from palimpsest.metrics.greedy.choice import Tally, choose, literal_choice


@dataclass
class Continuation:
    """A prompt and what a model goes on with.

    Attributes:
        id: of the example.
        prompt: its tokens, at least one.
        expected: tokens it may go on with: as many are wanted, and as many more as tell whether it ends there.
        ends: tokens at which it ends.
        said: tokens so far, without the ending one.
        ended: did the model end by itself?
        done: is nothing more wanted?
    """

    id: str
    prompt: tuple[int, ...]
    expected: tuple[int, ...]
    ends: frozenset[int]
    said: list[int] = field(default_factory=list)
    ended: bool = False
    done: bool = False

    @property
    def text(self) -> tuple[int, ...]:
        """All tokens so far."""
        return (*self.prompt, *self.said)

    def take(self, token: int, longest: int | None) -> None:
        """Take the next token in, and see whether another is wanted that the model can be asked for."""
        self.ended = token in self.ends
        self.done = self.ended or len(self.said) == len(self.expected)
        if not self.done:
            self.said.append(token)
            self.done = longest is not None and len(self.text) > longest


def continue_rows(model: nn.Module, rows: list[Continuation], longest: int | None, told: Callable[[int], None]) -> None:
    """Fill in what the model says; where it says what is expected, many tokens a pass.

    No cache: what state-space, convolution or window layers keep is rounded otherwise than a whole pass. A place with
    others beside or behind it is rounded otherwise, too: where two tokens nearly tie, a pass over exactly what stands
    before it decides.

    Args:
        model: in eval mode, without gradients.
        rows: changed in place.
        longest: tokens that the model takes at most; no prompt is longer.
        told: called after each pass with the number of rows that are done.

    Raises:
        DivergedError: logits that are not finite numbers.
    """
    bordered = bool(borders_of(model))  # its positions depend on what is behind them
    while going := [row for row in rows if not row.done]:
        guesses = [() if bordered else _guess(row, longest) for row in going]
        for row, guess, logits_NV in zip(going, guesses, _next_logits(model, going, guesses), strict=True):
            _take(row, guess, _choices(model, row, guess, logits_NV), longest)
        told(sum(row.done for row in rows))


def _guess(row: Continuation, longest: int | None) -> tuple[int, ...]:
    """What the row may go on with, as far as the model takes it."""
    room = len(row.expected) if longest is None else longest - len(row.prompt)
    return row.expected[len(row.said) : room]


def _take(row: Continuation, guess: tuple[int, ...], tokens: Iterator[int], longest: int | None) -> None:
    """Take tokens as long as each was asked for behind those before it."""
    for place, token in enumerate(tokens):
        row.take(token, longest)
        if row.done or guess[place : place + 1] != (token,):
            return


def _choices(
    model: nn.Module, row: Continuation, guess: tuple[int, ...], logits_NV: Float[Tensor, "N V"]
) -> Iterator[int]:
    """The likeliest token behind the row, and behind each token of the guess."""
    text, choice = row.text, choose(logits_NV)
    for place, (finite, token, near) in enumerate(
        zip(choice.finite_R.tolist(), choice.token_R.tolist(), choice.decide_R.tolist(), strict=True)
    ):
        if not finite:
            raise DivergedError(f"the model's logits on example {row.id!r} are not finite numbers; it has no answer")
        prefix_T = torch.tensor([*text, *guess[:place]], device=logits_NV.device) if near else None
        yield token if prefix_T is None else int(literal_choice(model, prefix_T, Tally()))


def _next_logits(
    model: nn.Module, rows: list[Continuation], guesses: list[tuple[int, ...]]
) -> list[Float[Tensor, "N V"]]:
    """Logits behind each row and behind each token of its guess."""
    texts = [(*row.text, *guess) for row, guess in zip(rows, guesses, strict=True)]
    batch = collate([TokenSequence(row.id, t, (False,) * len(t)) for row, t in zip(rows, texts, strict=True)], 0)
    found = [torch.empty(0)] * len(rows)
    for places, part in batch.to(next(model.parameters()).device).apart(model):
        longest = part.input_ids_BT.shape[1]
        starts = [len(texts[place]) - 1 - len(guesses[place]) for place in places]
        last_RKV = _last_logits(model, part, longest - min(starts))
        skipped = longest - last_RKV.shape[1]
        for row, (place, start) in enumerate(zip(places, starts, strict=True)):
            found[place] = last_RKV[row, start - skipped : len(texts[place]) - skipped]
    return found


def _last_logits(model: nn.Module, batch: TextBatch, count: int) -> Float[Tensor, "R K V"]:
    """Logits at the last ``count`` places, or at all where the model cannot leave some out."""
    some = {"logits_to_keep": count} if "logits_to_keep" in inspect.signature(model.forward).parameters else {}
    output: Any = model(**batch.inputs(), use_cache=False, **some)
    return output.logits  # type: ignore[no-any-return]
