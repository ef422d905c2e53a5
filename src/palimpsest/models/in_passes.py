"""The rows of a set, a few at a time: what goes through a model together, where no loop of steps decides it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from torch import nn

from palimpsest.data.encode.batch import Batch, ExampleSet, TextBatch


def in_passes(model: nn.Module, examples: ExampleSet, rows: int, ids: Sequence[str] | None = None) -> Iterator[Any]:
    """Batches of a set on the device of a model, each of so many rows, the last of what is left.

    Args:
        model: is not asked here.
        examples: as they are shown: ``examples.plain()`` where nothing is to be done to them at random; a batch has its
            ``bare`` where the controls of a run do not count.
        rows: of a batch, >= 1.
        ids: of rows of the set, in the order in which they are wanted; None = all, in the order of the set.
    """
    device = next(model.parameters()).device
    return (batch.to(device) for batch in batches_of(examples, rows, ids))


def batches_of(examples: ExampleSet, rows: int, ids: Sequence[str] | None = None) -> Iterator[Any]:
    """The same batches where the set has its rows; arguments of ``in_passes``."""
    wanted = examples.ids if ids is None else ids
    return (examples.batch(wanted[start : start + rows]) for start in range(0, len(wanted), rows))


def ways_through(model: nn.Module, batch: Batch) -> list[Batch]:
    """A batch as it goes through a model: in parts where a border in its positions lies between rows of texts."""
    return [part for _, part in batch.apart(model)] if isinstance(batch, TextBatch) else [batch]
