"""The matrices of a model's feed-forward networks, and the neurons between them, by name.

A *neuron* is a coordinate of what enters the last linear layer of a feed-forward network: it speaks by one column of
that layer's matrix (a row of GPT-2's, which is stored the other way round).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from palimpsest.errors import PlanError
from palimpsest.models.parts.unlearning_layer import widths_at
from palimpsest.models.places import ffn_outputs


def mlp_weights(model: nn.Module, who: str) -> dict[str, nn.Parameter]:
    """Name -> weight of every linear layer in the feed-forward networks that may move, first block first.

    Where a network is no module of its own (OPT, BLOOM, BERT) these are the linear layers beside its last one.

    Raises:
        PlanError: none of them may move.
        ModelError: no network can be told.
    """
    found: dict[str, nn.Parameter] = {}
    for place in ffn_outputs(model):
        module = model.get_submodule(place)
        if is_linear(module):
            outer = place.rpartition(".")[0]
            inside = [(f"{outer}.{name}", one) for name, one in model.get_submodule(outer).named_children()]
        else:
            inside = [(f"{place}.{name}", one) for name, one in module.named_modules()]
        found |= {f"{name}.weight": weight_of(one) for name, one in inside if is_linear(one)}
    return movable(found, who)


def last_layers(model: nn.Module, who: str) -> tuple[str, ...]:
    """Name of the last linear layer of every feed-forward network: what enters it are the neurons.

    Raises:
        PlanError: adapters lie on them.
        ModelError: no network, or no linear layer in it, can be told.
    """
    if hasattr(model, "disable_adapter"):
        raise _only_weights(who, "an adapter lies on them, and what is below one stays")
    return tuple(widths_at(model, place)[0] for place in ffn_outputs(model))


def movable(weights: dict[str, nn.Parameter], who: str) -> dict[str, nn.Parameter]:
    """Those of some weights that may move.

    Raises:
        PlanError: there are none: an adapter's run leaves the weights alone, and a scope may name others.
    """
    found = {name: weight for name, weight in weights.items() if weight.requires_grad}
    if not found:
        raise _only_weights(who, f"none of them may move (first: {next(iter(weights), 'none was found')})")
    return found


def _only_weights(who: str, why: str) -> PlanError:
    return PlanError(
        f"{who} edits the feed-forward weights themselves, and {why}; accepted: scope.kind = all, or layers that name "
        "some of them"
    )


def is_linear(module: nn.Module) -> bool:
    """A linear layer, GPT-2's transposed one included."""
    return isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"


def weight_of(layer: Any) -> nn.Parameter:
    """Its matrix, as it is stored."""
    weight: nn.Parameter = layer.weight
    return weight


def columns_of(layer: nn.Module, matrix: Tensor, neurons: Sequence[int]) -> Tensor:
    """View of what some neurons say: True where a matrix of the layer's shape belongs to one of them."""
    mask = torch.zeros_like(matrix, dtype=torch.bool)
    if isinstance(layer, nn.Linear):
        mask[:, list(neurons)] = True
    else:
        mask[list(neurons)] = True
    return mask


def as_stored(layer: nn.Module, change_DF: Tensor) -> Tensor:
    """A matrix (out, in) the way the layer stores its own."""
    return change_DF if isinstance(layer, nn.Linear) else change_DF.t()
