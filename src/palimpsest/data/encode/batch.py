"""Batches: tensors with ids, and what a model says about their scored positions.

Shape legend: B examples, T tokens, V vocabulary (or classes), S scored positions of the whole batch, D width.

A *scored position* is one the loss looks at: a label token of a text, the label of an image. Methods see only
scored positions, each with its target and the example that owns it, so they need not know the modality.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from palimpsest.data.encode.borders import borders_of, rows_apart
from palimpsest.data.encode.lean_logits import by_rows


@dataclass(frozen=True)
class Predictions:
    """Logits at the scored positions of a batch.

    Attributes:
        logits_SV: unnormalised log-probabilities, any float dtype.
        target_S: the token (or class) that is right.
        owner_S: row of the batch that each position belongs to.
        num_examples: B.
    """

    logits_SV: Float[Tensor, "S V"]
    target_S: Int[Tensor, "S"]
    owner_S: Int[Tensor, "S"]
    num_examples: int

    @cached_property
    def logp_S(self) -> Float[Tensor, "S"]:
        """Log-probability of each target, nats, computed in fp32."""
        return by_rows(_log_likelihood, self.logits_SV, self.target_S)

    def sum_by_example(self, values_S: Float[Tensor, "S"]) -> Float[Tensor, "B"]:
        """Sum of per-position values over each example."""
        return values_S.new_zeros(self.num_examples).index_add(0, self.owner_S, values_S)

    @property
    def count_B(self) -> Float[Tensor, "B"]:
        """Scored positions of each example."""
        return self.sum_by_example(torch.ones_like(self.owner_S, dtype=torch.float32))

    @property
    def logp_B(self) -> Float[Tensor, "B"]:
        """Log-probability of each example, summed over its scored positions, nats."""
        return self.sum_by_example(self.logp_S)

    @property
    def nll_B(self) -> Float[Tensor, "B"]:
        """Negative log-likelihood of each example, averaged over its scored positions, nats."""
        return -self.logp_B / self.count_B


def _log_likelihood(logits_RV: Tensor, target_R: Tensor) -> Tensor:
    return -F.cross_entropy(logits_RV.float(), target_R, reduction="none")


@runtime_checkable
class Batch(Protocol):
    """Examples as tensors. Text and images each have their own; methods use only this."""

    @property
    def ids(self) -> tuple[str, ...]:
        """Of the examples, rows in order."""

    @property
    def num_scored(self) -> int:
        """Scored positions in the whole batch."""

    @property
    def target_S(self) -> Tensor:
        """What is right at each scored position."""

    @property
    def owner_S(self) -> Tensor:
        """Row of each scored position."""

    def __len__(self) -> int:
        """Number of examples."""

    def to(self, device: torch.device) -> Batch:
        """The same batch on a device."""

    def inputs(self) -> dict[str, Tensor]:
        """Keyword arguments of the model's forward."""

    def gather(self, values: Tensor) -> Tensor:
        """Values at the scored positions: (B, T, ...) -> (S, ...) for text."""

    def predict(self, model: nn.Module) -> Predictions:
        """One forward pass, read at the scored positions."""

    def predict_with(self, model: nn.Module, others: Sequence[Any]) -> list[Predictions]:
        """Predictions of this batch and of others of its kind, in one pass where a layer looks at the whole batch."""

    @property
    def bare(self) -> Batch:
        """The batch without the controls of a run (``controlled.py``): itself, unless it has any."""

    def seen(self, said: Predictions, *, picks: bool = True) -> Predictions:
        """What an objective is shown of a pass over the bare batch: all, unless it is controlled.

        Args:
            said: by a model, at all scored positions.
            picks: the model is the one that learns, whose word decides which positions are shown; not a reference.
        """

    def shown(self, values: Tensor) -> Tensor:
        """Values at all scored positions -> those at the positions that are shown, once a model was asked."""


def predict_together(model: nn.Module, batches: Mapping[str, Batch]) -> dict[str, Predictions]:
    """Predictions of the batches of one step, in one forward pass where a layer looks at the whole batch.

    Batch normalisation of two sets apart would normalise each by itself, and the running statistics would fit neither.
    Modalities without such layers (text) go through one after the other.
    """
    first, *others = (batch.bare for batch in batches.values())
    said = first.predict_with(model, others)
    return {name: batch.seen(one) for (name, batch), one in zip(batches.items(), said, strict=True)}


@runtime_checkable
class ExampleSet(Protocol):
    """A named set of examples that hands out batches."""

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids in the order of the data."""

    def __len__(self) -> int:
        """Number of examples."""

    def batch(self, ids: Sequence[str]) -> Batch:
        """The examples with these ids as one batch."""

    def subset(self, ids: Iterable[str]) -> ExampleSet:
        """The examples with these ids as a set, in the order of this one."""

    def plain(self) -> ExampleSet:
        """The same set with nothing done to its examples at random."""


AnyWhole = TypeVar("AnyWhole")  # beartype takes no Self here


class WholeBatch:
    """What all kinds of batches have alike but the controlled one: an objective is shown all of it."""

    ids: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def bare(self: AnyWhole) -> AnyWhole:
        """Itself: it has no controls."""
        return self

    def seen(self, said: Predictions, *, picks: bool = True) -> Predictions:
        """All of it."""
        return said

    def shown(self, values: Tensor) -> Tensor:
        """All of them."""
        return values


@dataclass(frozen=True)
class TextBatch(WholeBatch):
    """Token sequences, padded on the right.

    Attributes:
        ids: example ids, B of them.
        input_ids_BT: tokens.
        lengths_B: true lengths; the attention mask comes from these, never from ``ids != pad``.
        scored_BT: True at tokens that are labels; never True at the first token or at padding.
    """

    ids: tuple[str, ...]
    input_ids_BT: Int[Tensor, "B T"]
    lengths_B: Int[Tensor, "B"]
    scored_BT: Bool[Tensor, "B T"]

    @cached_property
    def num_scored(self) -> int:
        """Label tokens in the whole batch."""
        return int(self.scored_BT.sum())

    def to(self, device: torch.device) -> TextBatch:
        """The same batch on a device."""
        return TextBatch(self.ids, self.input_ids_BT.to(device), self.lengths_B.to(device), self.scored_BT.to(device))

    @property
    def attention_mask_BT(self) -> Int[Tensor, "B T"]:
        """1 at true tokens, 0 at padding."""
        positions_T = torch.arange(self.input_ids_BT.shape[1], device=self.input_ids_BT.device)
        return (positions_T < self.lengths_B[:, None]).long()

    def inputs(self) -> dict[str, Tensor]:
        """Keyword arguments of a causal LM's forward."""
        return {"input_ids": self.input_ids_BT, "attention_mask": self.attention_mask_BT}

    def gather(self, values: Tensor) -> Tensor:
        """Values of the positions that predict a label: (B, T, ...) -> (S, ...), rows in order."""
        return values[:, :-1][self.scored_BT[:, 1:]]

    @property
    def target_S(self) -> Int[Tensor, "S"]:
        """The label tokens, rows in order."""
        return self.input_ids_BT[self.scored_BT]

    @property
    def owner_S(self) -> Int[Tensor, "S"]:
        """Row of each label token."""
        return self.scored_BT.nonzero()[:, 0]

    def predict(self, model: nn.Module) -> Predictions:
        """One forward pass, read at the label tokens; one for each side of a border in the model's positions."""
        parts = self.apart(model)
        if len(parts) == 1:
            return self.predictions(_logits(model, self))
        said = [part.gather(_logits(model, part)) for _, part in parts]
        rows_B = torch.tensor([row for rows, _ in parts for row in rows], device=self.input_ids_BT.device)
        owner_S = rows_B.repeat_interleave(self.scored_BT.sum(1)[rows_B])
        return Predictions(torch.cat(said)[owner_S.argsort(stable=True)], self.target_S, self.owner_S, len(self))

    def predict_with(self, model: nn.Module, others: Sequence[TextBatch]) -> list[Predictions]:
        """One after the other: no layer looks at the whole batch."""
        return [batch.predict(model) for batch in (self, *others)]

    def predictions(self, logits_BTV: Float[Tensor, "B T V"]) -> Predictions:
        """The logits of a forward pass over all rows, read at the label tokens."""
        return Predictions(self.gather(logits_BTV), self.target_S, self.owner_S, len(self))

    def apart(self, model: nn.Module) -> list[tuple[list[int], TextBatch]]:
        """Rows that may go through a model together, by their numbers and as batches: nearly always this one."""
        borders = borders_of(model)
        sides = rows_apart(self.lengths_B, borders) if borders else []
        if len(sides) < 2:
            return [(list(range(len(self))), self)]
        return [(rows, self._of_rows(rows)) for rows in sides]

    def _of_rows(self, rows: list[int]) -> TextBatch:
        lengths_B = self.lengths_B[rows]
        longest = int(lengths_B.max())
        ids = tuple(self.ids[row] for row in rows)
        return TextBatch(ids, self.input_ids_BT[rows, :longest], lengths_B, self.scored_BT[rows, :longest])


def _logits(model: nn.Module, batch: TextBatch) -> Float[Tensor, "B T V"]:
    output: Any = model(**batch.inputs(), use_cache=False)
    logits_BTV: Tensor = output.logits
    return logits_BTV


@dataclass(frozen=True, slots=True)
class TokenSequence:
    """One example as tokens.

    Attributes:
        id: of the example.
        tokens: T token ids.
        scored: T flags: is this token a label? The first never is.
    """

    id: str
    tokens: tuple[int, ...]
    scored: tuple[bool, ...]


def collate(sequences: Sequence[TokenSequence], pad_id: int) -> TextBatch:
    """Pad sequences on the right into one batch.

    Args:
        sequences: B of them, any lengths >= 2.
        pad_id: token id put after the end; may equal a genuine token, because nothing is derived from it.

    Returns:
        TextBatch with T = the longest length.

    >>> collate([TokenSequence("a", (5, 6, 7), (False, False, True))], pad_id=0).num_scored
    1
    """
    longest = max(len(s.tokens) for s in sequences)
    input_ids_BT = torch.full((len(sequences), longest), pad_id, dtype=torch.long)
    scored_BT = torch.zeros((len(sequences), longest), dtype=torch.bool)
    for row, sequence in enumerate(sequences):
        input_ids_BT[row, : len(sequence.tokens)] = torch.tensor(sequence.tokens)
        scored_BT[row, : len(sequence.tokens)] = torch.tensor(sequence.scored)
    lengths_B = torch.tensor([len(s.tokens) for s in sequences])
    return TextBatch(tuple(s.id for s in sequences), input_ids_BT, lengths_B, scored_BT)


class TextSet:
    """A named set of token sequences that hands out batches by id.

    Attributes:
        family: name of the family of models that takes it (``models/families``).
    """

    family: str = "causal"

    def __init__(self, sequences: Sequence[TokenSequence], pad_id: int) -> None:
        self.pad_id = pad_id
        self._by_id = {sequence.id: sequence for sequence in sequences}

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids in the order of the data."""
        return tuple(self._by_id)

    def __len__(self) -> int:
        return len(self._by_id)

    def __getitem__(self, example_id: str) -> TokenSequence:
        return self._by_id[example_id]

    def batch(self, ids: Sequence[str]) -> TextBatch:
        """The examples with these ids as one batch, in the order asked; an id may repeat."""
        return collate([self._by_id[i] for i in ids], self.pad_id)

    def subset(self, ids: Iterable[str]) -> TextSet:
        """The examples with these ids as a set, in the order of this one."""
        chosen = frozenset(ids)
        return TextSet([self._by_id[i] for i in self._by_id if i in chosen], self.pad_id)

    def rewritten(self, rows: Sequence[TokenSequence]) -> TextSet:
        """A set of this kind with other tokens in the place of each row, in the order of this one."""
        return TextSet(rows, self.pad_id)

    def plain(self) -> TextSet:
        """This set: nothing is done to texts at random."""
        return self
