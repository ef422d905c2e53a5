"""Texts with a class -> batches. What is scored is the class, one position per text.

Shape legend: B texts of a batch, T tokens, S scored positions, D width.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Int
from torch import Tensor, nn

from palimpsest.data.ahead import TokensAhead
from palimpsest.data.encode.batch import Predictions, TokenSequence, collate
from palimpsest.data.encode.class_batch import ClassBatch
from palimpsest.data.encode.long_texts import check_size, longest_text
from palimpsest.data.problems import Problems, refuse_twice
from palimpsest.data.read.classes import class_number, own_label
from palimpsest.errors import DataError, ModelError
from palimpsest.records import Example, Labelled

ReadAt = Literal["first", "last"]
"""The token at which a model of this kind reads the class: BERT's [CLS], or the last one of a decoder."""
_TOGETHER = 1000  # texts that are tokenised by one call


@dataclass(frozen=True)
class LabelBatch(ClassBatch):
    """Token sequences, padded on the right, each with its class.

    Attributes:
        ids: example ids, B of them.
        input_ids_BT: tokens.
        lengths_B: true lengths.
        label_B: classes.
        read_at: where the class is read.
    """

    ids: tuple[str, ...]
    input_ids_BT: Int[Tensor, "B T"]
    lengths_B: Int[Tensor, "B"]
    label_B: Int[Tensor, "B"]
    read_at: ReadAt = "first"

    def to(self, device: torch.device) -> LabelBatch:
        """The same batch on a device."""
        tensors = (self.input_ids_BT.to(device), self.lengths_B.to(device), self.label_B.to(device))
        return LabelBatch(self.ids, *tensors, self.read_at)

    def inputs(self) -> dict[str, Tensor]:
        """Keyword arguments of the model's forward; the mask comes from the lengths, never from ``ids != pad``."""
        positions_T = torch.arange(self.input_ids_BT.shape[1], device=self.input_ids_BT.device)
        return {
            "input_ids": self.input_ids_BT,
            "attention_mask": (positions_T < self.lengths_B[:, None]).long(),
        }

    def gather(self, values: Tensor) -> Tensor:
        """Values at the scored positions: of (B, T, ...) those at which the class is read; (B, ...) as they are."""
        if values.ndim < 3:
            return values
        rows_B = torch.arange(len(self), device=values.device)
        return values[rows_B, self.lengths_B - 1 if self.read_at == "last" else torch.zeros_like(self.lengths_B)]

    def predict(self, model: nn.Module) -> Predictions:
        """One forward pass."""
        output: Any = model(**self.inputs())
        return Predictions(output.logits, self.target_S, self.owner_S, len(self))

    def predict_with(self, model: nn.Module, others: Sequence[LabelBatch]) -> list[Predictions]:
        """One after the other: no layer looks at the whole batch."""
        return [batch.predict(model) for batch in (self, *others)]


@dataclass(frozen=True)
class LabelSet:
    """A named set of texts with classes that hands out batches by id.

    Attributes:
        texts: their tokens, ids unique; none is scored.
        label_N: their classes.
        pad_id: token id put after the end.
        read_at: where the class is read.
        family: name of the family of models that takes it.
    """

    family: ClassVar[str] = "text_classifier"

    texts: tuple[TokenSequence, ...]
    label_N: Int[Tensor, "N"]
    pad_id: int = 0
    read_at: ReadAt = "first"

    def __post_init__(self) -> None:
        object.__setattr__(self, "_row", {text.id: row for row, text in enumerate(self.texts)})

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids in the order of the data."""
        return tuple(text.id for text in self.texts)

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, example_id: str) -> TokenSequence:
        return self.texts[self._row[example_id]]  # type: ignore[attr-defined]

    def batch(self, ids: Sequence[str]) -> LabelBatch:
        """The examples with these ids as one batch, in the order asked; an id may repeat."""
        together = collate([self[i] for i in ids], self.pad_id)
        row_B = torch.tensor([self._row[i] for i in ids], dtype=torch.long)  # type: ignore[attr-defined]
        return LabelBatch(together.ids, together.input_ids_BT, together.lengths_B, self.label_N[row_B], self.read_at)

    def subset(self, ids: Iterable[str]) -> LabelSet:
        """The examples with these ids as a set, in the order of this one."""
        chosen = frozenset(ids)
        rows = [row for row, text in enumerate(self.texts) if text.id in chosen]
        return replace(self, texts=tuple(self.texts[row] for row in rows), label_N=self.label_N[rows])

    def rewritten(self, rows: Sequence[TokenSequence]) -> LabelSet:
        """A set of this kind with other tokens in the place of each row, in the order of this one."""
        return replace(self, texts=tuple(rows))

    def plain(self) -> LabelSet:
        """This set: nothing is done to texts at random."""
        return self


def encode_labels(
    examples: Sequence[Example],
    tokenizer: Any | None,
    *,
    num_classes: int,
    class_names: Mapping[str, int],
    max_length: int | None,
    truncate: bool = False,
    pad_id: int = 0,
    read_at: ReadAt = "first",
) -> LabelSet:
    """Tokenise texts as the tokenizer has them, special tokens included, and tell their classes.

    Args:
        examples: ids unique, contents texts with a label.
        tokenizer: of the model.
        num_classes: of the model.
        class_names: name -> class, for labels given as names.
        max_length: most tokens a text may have; None for no limit.
        truncate: cut longer texts instead of refusing them.
        pad_id: token id put after the end of a text.
        read_at: where the model reads the class.

    Raises:
        DataError: which example is too long or of an unknown class; how many more.
        ModelError: there is no tokenizer.
    """
    if tokenizer is None:
        raise ModelError("the model has no tokenizer; give a folder that has one")
    cut = _Cut(tokenizer, max_length, truncate)
    texts: dict[str, TokenSequence] = {}
    labels: list[int] = []
    problems = Problems()
    for position, example in enumerate(examples):
        if position % _TOGETHER == 0:
            cut.read_ahead(examples[position : position + _TOGETHER])
        with problems.of(example.name):
            content = _labelled(example, texts)
            label = class_number(own_label(content, class_names), num_classes, class_names)
            texts[example.id] = cut.sequence(example.id, content)
            labels.append(label)
    problems.refuse()
    return LabelSet(tuple(texts.values()), torch.tensor(labels, dtype=torch.long), pad_id, read_at)


def _labelled(example: Example, seen: Mapping[str, TokenSequence]) -> Labelled:
    if not isinstance(example.content, Labelled):
        kind = type(example.content).__name__.lower()
        raise DataError(f"a row of {kind} for a classifier of texts; accepted: rows of {{text, label}}")
    refuse_twice(example.id, seen)
    return example.content


class _Cut:
    """A tokenizer with a longest text."""

    def __init__(self, tokenizer: Any, max_length: int | None, truncate: bool) -> None:
        self._tokenizer, self._max_length, self._truncate = tokenizer, max_length, truncate
        self._limit = longest_text(max_length, truncate=truncate)
        self._ahead = TokensAhead(tokenizer)

    def read_ahead(self, examples: Sequence[Example]) -> None:
        """Have the texts of these examples tokenised by one call."""
        contents = (example.content for example in examples)
        self._ahead.read([c.text for c in contents if isinstance(c, Labelled) and len(c.text) <= self._limit], [])

    def sequence(self, example_id: str, content: Labelled) -> TokenSequence:
        """The tokens of one text.

        Raises:
            DataError: they are none, or too many.
        """
        check_size(content, self._limit)
        known = self._ahead.texts.get(content.text)
        found = self._tokenizer(content.text, verbose=False)["input_ids"] if known is None else known[0]
        tokens = [int(token) for token in found]
        if not tokens:
            raise DataError("no token is left of it; accepted: a text that the tokenizer knows something of")
        if self._max_length is not None and len(tokens) > self._max_length:
            if not self._truncate:
                raise DataError(
                    f"{len(tokens)} tokens; accepted: at most {self._max_length}; shorten it, cut such rows with "
                    "--truncate, or set another limit with --set encoding.max_length=N"
                )
            tokens = self._shortened(tokens)
        return TokenSequence(example_id, tuple(tokens), (False,) * len(tokens))

    def _shortened(self, tokens: list[int]) -> list[int]:
        """Cut at the end of the text; a special token that closes it stays, as BERT's [SEP]."""
        special = frozenset(getattr(self._tokenizer, "all_special_ids", ()))
        closing = tokens[-1:] if tokens[-1] in special else []
        return [*tokens[: (self._max_length or len(tokens)) - len(closing)], *closing]
