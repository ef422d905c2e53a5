"""A model whose logits are its parameters, so that every loss can be worked by hand."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from palimpsest.data.encode.batch import TextBatch, TextSet, TokenSequence, collate


class TableModel(nn.Module):
    """Next-token logits looked up by the current token: p(v | t) = softmax(table[t])[v]."""

    def __init__(self, probabilities: list[list[float]]) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.tensor(probabilities).log())

    def forward(self, input_ids, attention_mask, use_cache):
        return SimpleNamespace(logits=self.table[input_ids])


class FixedReference:
    """A reference with its own table."""

    def __init__(self, model: TableModel) -> None:
        self.model = model

    def predict(self, model, batch):
        return batch.predict(self.model)


def sequence(name: str, *tokens: int) -> TokenSequence:
    return TokenSequence(name, tokens, (False,) + (True,) * (len(tokens) - 1))


@pytest.fixture
def half() -> TableModel:
    """Two tokens, each follows each with probability 1/2."""
    return TableModel([[0.5, 0.5], [0.5, 0.5]])


@pytest.fixture
def skewed() -> TableModel:
    """After any token: 0 with probability 0.8, 1 with 0.2."""
    return TableModel([[0.8, 0.2], [0.8, 0.2]])


@pytest.fixture
def one_set() -> TextSet:
    """A set of one row."""
    return TextSet([sequence("a", 0, 0, 0)], pad_id=0)


@pytest.fixture
def two_rows() -> TextBatch:
    """Row a: two label tokens 0, 0. Row b: one label token 1."""
    return collate([sequence("a", 0, 0, 0), sequence("b", 0, 1)], pad_id=0)


@pytest.fixture
def reference_half(half) -> FixedReference:
    """The uniform table as the reference."""
    return FixedReference(half)
