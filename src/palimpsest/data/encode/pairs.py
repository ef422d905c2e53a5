"""Prompts and completions for a model with an encoder and a decoder -> batches. The completion's tokens are scored.

The encoder is given the prompt as the tokenizer has it, special tokens included, and the decoder the completion, one
position late and behind the token with which it starts: its output at a position is about the token at that position.

Shape legend: B pairs, T tokens of the prompts, U tokens of the completions, S scored positions.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn

from palimpsest.data.encode.batch import Predictions, TextSet, TokenSequence, WholeBatch
from palimpsest.data.encode.long_texts import check_size, longest_text
from palimpsest.data.problems import Problems, refuse_twice
from palimpsest.errors import DataError, ModelError
from palimpsest.records import Completion, Example


@dataclass(frozen=True)
class PairBatch(WholeBatch):
    """Prompts and completions, each padded on the right.

    Attributes:
        ids: example ids, B of them.
        input_ids_BT: tokens of the prompts.
        lengths_B: true lengths of the prompts.
        answer_BU: tokens of the completions, all of which are scored.
        answer_lengths_B: true lengths of the completions.
        start_id: token with which the decoder starts.
    """

    ids: tuple[str, ...]
    input_ids_BT: Int[Tensor, "B T"]
    lengths_B: Int[Tensor, "B"]
    answer_BU: Int[Tensor, "B U"]
    answer_lengths_B: Int[Tensor, "B"]
    start_id: int

    @property
    def num_scored(self) -> int:
        """Tokens of all completions."""
        return int(self.answer_lengths_B.sum())

    def to(self, device: torch.device) -> PairBatch:
        """The same batch on a device."""
        prompts = (self.input_ids_BT.to(device), self.lengths_B.to(device))
        return PairBatch(self.ids, *prompts, self.answer_BU.to(device), self.answer_lengths_B.to(device), self.start_id)

    def inputs(self) -> dict[str, Tensor]:
        """Keyword arguments of the model's forward; masks come from the lengths, never from ``ids != pad``."""
        start_B1 = self.answer_BU.new_full((len(self), 1), self.start_id)
        return {
            "input_ids": self.input_ids_BT,
            "attention_mask": _within(self.input_ids_BT, self.lengths_B).long(),
            "decoder_input_ids": torch.cat([start_B1, self.answer_BU[:, :-1]], 1),
            "decoder_attention_mask": _within(self.answer_BU, self.answer_lengths_B).long(),
        }

    def gather(self, values: Tensor) -> Tensor:
        """Values of the decoder's positions that are scored: (B, U, ...) -> (S, ...), rows in order, no shift.

        Raises:
            ModelError: they are not the decoder's.
        """
        if values.shape[1] != self.answer_BU.shape[1]:
            raise ModelError(
                "what one token of an answer says was asked of a module that sees the prompt alone; accepted: a module "
                "of the decoder"
            )
        return values[_within(self.answer_BU, self.answer_lengths_B)]

    @property
    def target_S(self) -> Int[Tensor, "S"]:
        """The completions' tokens, rows in order."""
        return self.answer_BU[_within(self.answer_BU, self.answer_lengths_B)]

    @property
    def owner_S(self) -> Int[Tensor, "S"]:
        """Row of each."""
        return _within(self.answer_BU, self.answer_lengths_B).nonzero()[:, 0]

    def predict(self, model: nn.Module) -> Predictions:
        """One forward pass, read at the completions' tokens."""
        output: Any = model(**self.inputs(), use_cache=False)
        return Predictions(self.gather(output.logits), self.target_S, self.owner_S, len(self))

    def predict_with(self, model: nn.Module, others: Sequence[PairBatch]) -> list[Predictions]:
        """One after the other: no layer looks at the whole batch."""
        return [batch.predict(model) for batch in (self, *others)]


def _within(tokens_BT: Tensor, lengths_B: Tensor) -> Tensor:
    """True at true tokens, False at padding."""
    return torch.arange(tokens_BT.shape[1], device=tokens_BT.device) < lengths_B[:, None]


class PairSet(TextSet):
    """A named set of prompts and completions: as token sequences, prompt before completion, and as pairs in batches.

    Attributes:
        family: name of the family of models that takes it.
        start_id: token with which the decoder starts.
    """

    family = "seq2seq"

    def __init__(self, sequences: Sequence[TokenSequence], pad_id: int, start_id: int) -> None:
        super().__init__(sequences, pad_id)
        self.start_id = start_id

    def batch(self, ids: Sequence[str]) -> PairBatch:  # type: ignore[override]  # another kind of batch
        """The examples with these ids as one batch, in the order asked; an id may repeat."""
        sequences = [self[i] for i in ids]
        prompts = [[t for t, scored in zip(s.tokens, s.scored, strict=True) if not scored] for s in sequences]
        answers = [[t for t, scored in zip(s.tokens, s.scored, strict=True) if scored] for s in sequences]
        return PairBatch(tuple(ids), *_padded(prompts, self.pad_id), *_padded(answers, self.pad_id), self.start_id)

    def subset(self, ids: Iterable[str]) -> PairSet:
        """The examples with these ids as a set, in the order of this one."""
        chosen = frozenset(ids)
        return PairSet([self[i] for i in self.ids if i in chosen], self.pad_id, self.start_id)

    def rewritten(self, rows: Sequence[TokenSequence]) -> PairSet:
        """A set of this kind with other tokens in the place of each row, in the order of this one."""
        return PairSet(rows, self.pad_id, self.start_id)


def _padded(rows: Sequence[Sequence[int]], pad_id: int) -> tuple[Int[Tensor, "B T"], Int[Tensor, "B"]]:
    lengths_B = torch.tensor([len(row) for row in rows])
    tokens_BT = torch.full((len(rows), int(lengths_B.max())), pad_id, dtype=torch.long)
    for number, row in enumerate(rows):
        tokens_BT[number, : len(row)] = torch.tensor(row)
    return tokens_BT, lengths_B


def encode_pairs(
    examples: Sequence[Example],
    tokenizer: Any | None,
    *,
    max_length: int | None,
    truncate: bool = False,
    pad_id: int = 0,
    start_id: int = 0,
) -> PairSet:
    """Tokenise prompts and completions apart, each closed by the tokenizer's eos.

    Args:
        examples: ids unique, contents completions.
        tokenizer: of the model.
        max_length: most tokens that a prompt may have, and a completion; None for no limit.
        truncate: cut longer ones at the end instead of refusing them.
        pad_id: token id put after the end.
        start_id: token with which the decoder starts.

    Raises:
        DataError: which example is too long or none of this kind; how many more.
        ModelError: there is no tokenizer, or it has no eos.
    """
    if tokenizer is None:
        raise ModelError("the model has no tokenizer; give a folder that has one")
    cut = _PairCut(tokenizer, max_length, truncate)
    sequences: dict[str, TokenSequence] = {}
    problems = Problems()
    for example in examples:
        with problems.of(example.name):
            sequences[example.id] = cut.sequence(example, sequences)
    problems.refuse()
    return PairSet(list(sequences.values()), pad_id, start_id)


class _PairCut:
    """A tokenizer with a longest prompt and completion."""

    def __init__(self, tokenizer: Any, max_length: int | None, truncate: bool) -> None:
        self._tokenizer, self._max_length, self._truncate = tokenizer, max_length, truncate
        self._limit = longest_text(max_length, truncate=truncate)
        eos = tokenizer.eos_token_id
        if eos is None:
            raise ModelError("the tokenizer has no eos token, which ends completions; set eos_token in its config")
        self._eos = int(eos)

    def sequence(self, example: Example, seen: Container[str]) -> TokenSequence:
        """Prompt and completion of one example, the completion scored.

        Raises:
            DataError: it is no completion, too long, or its id was there before.
        """
        content = example.content
        if not isinstance(content, Completion):
            kind = type(content).__name__.lower()
            raise DataError(
                f"a row of {kind} for a sequence-to-sequence model; accepted: rows of {{prompt, completion}}"
            )
        refuse_twice(example.id, seen)
        check_size(content, self._limit)
        prompt, answer = self._tokens(content.prompt, "prompt"), self._closed(content.completion)
        return TokenSequence(example.id, (*prompt, *answer), (False,) * len(prompt) + (True,) * len(answer))

    def _closed(self, text: str) -> list[int]:
        """Tokens of a completion, which end in one eos and begin with no special token."""
        found = [int(token) for token in self._tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]]
        kept = found if found[-1:] == [self._eos] else [*found, self._eos]
        return self._fit(kept, "completion")

    def _tokens(self, text: str, what: str) -> list[int]:
        return self._fit([int(token) for token in self._tokenizer(text, verbose=False)["input_ids"]], what)

    def _fit(self, tokens: list[int], what: str) -> list[int]:
        if not tokens:
            raise DataError(f"no token is left of its {what}; accepted: a text that the tokenizer knows something of")
        if self._max_length is None or len(tokens) <= self._max_length:
            return tokens
        if not self._truncate:
            raise DataError(
                f"a {what} of {len(tokens)} tokens; accepted: at most {self._max_length}; shorten it, cut such rows "
                "with --truncate, or set another limit with --set encoding.max_length=N"
            )
        return tokens[: self._max_length]
