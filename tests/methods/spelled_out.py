"""What a table says at the label tokens, in Python loops: the other side of the tests of losses."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from tests.methods.conftest import TableModel

from palimpsest.data.encode.batch import TextBatch, TokenSequence, collate

WORDS = 5
ROWS = (
    TokenSequence("a", (4, 1, 2, 3, 0), (False, False, True, True, True)),
    TokenSequence("b", (2, 1), (False, True)),
    TokenSequence("c", (3, 3, 1, 4), (False, True, False, True)),
)
OTHER = (
    TokenSequence("r", (1, 0, 2, 4), (False, False, True, True)),
    TokenSequence("s", (0, 3), (False, True)),
)
"""Rows of several lengths: prompts, padding and a gap between answers are none of a loss's business."""


class Place(NamedTuple):
    """A label token: the row it belongs to, what is said there, and what is right."""

    row: int
    logits: list[float]
    p: list[float]
    right: int


def table(seed: int) -> TableModel:
    """A model with random logits."""
    generator = torch.Generator().manual_seed(seed)
    return TableModel((torch.randn(WORDS, WORDS, generator=generator) * 1.5).softmax(-1).tolist())


def softmax(logits: Sequence[float]) -> list[float]:
    """Probabilities."""
    whole = sum(math.exp(z) for z in logits)
    return [math.exp(z) / whole for z in logits]


def places(model: TableModel, rows: Sequence[TokenSequence]) -> Iterator[Place]:
    """The label tokens of some rows, one after the other."""
    for number, row in enumerate(rows):
        for t in range(1, len(row.tokens)):
            if row.scored[t]:
                logits = model.table[row.tokens[t - 1]].tolist()
                yield Place(number, logits, softmax(logits), row.tokens[t])


def batch(rows: Sequence[TokenSequence] = ROWS) -> TextBatch:
    """Padded with a token that is in the vocabulary."""
    return collate(rows, pad_id=2)


def nats(p: float) -> float:
    """-log p."""
    return -math.log(p)
