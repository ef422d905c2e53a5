"""First and second moments of what goes on inside a model over a whole set: means of outputs, Gram matrices of inputs.

Shape legend: S scored positions, D width, F what enters a matrix.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from palimpsest.data.encode.batch import ExampleSet
from palimpsest.models.activations import activations_of, inputs_of
from palimpsest.models.in_passes import in_passes

TAKEN_AT_ONCE = 8


class Inflow(NamedTuple):
    """What enters a matrix over the label tokens of a set.

    Attributes:
        mean_F: mean a.
        second_FF: mean a aᵀ.
    """

    mean_F: Tensor
    second_FF: Tensor


def whole_in_batches(model: nn.Module, examples: ExampleSet) -> Iterator[Any]:
    """All rows of a set in their order, as batches on the model's device, nothing done to them at random."""
    return (batch.bare for batch in in_passes(model, examples.plain(), TAKEN_AT_ONCE))


@torch.no_grad()
def mean_output(model: nn.Module, place: str, examples: ExampleSet) -> Float[Tensor, "D"]:
    """Mean output of a module over the label tokens of a set, fp64."""
    sums, positions = [], 0
    for batch in whole_in_batches(model, examples):
        hidden_SD, _ = activations_of(model, place, batch)
        sums.append(hidden_SD.double().sum(0))
        positions += len(hidden_SD)
    return torch.stack(sums).sum(0) / positions


@torch.no_grad()
def inflow_of(model: nn.Module, layer: str, examples: ExampleSet) -> Inflow:
    """Moments of what enters a linear layer over the label tokens of a set, fp64."""
    mean_F: Any = 0
    second_FF: Any = 0
    positions = 0
    for batch in whole_in_batches(model, examples):
        a_SF = inputs_of(model, layer, batch).double()
        mean_F, second_FF, positions = mean_F + a_SF.sum(0), second_FF + a_SF.T @ a_SF, positions + len(a_SF)
    return Inflow(mean_F / positions, second_FF / positions)
