"""The last linear layer of a model, and what enters it.

Shape legend: B examples, T positions, D width.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from palimpsest.data.encode.batch import Batch
from palimpsest.errors import ModelError
from palimpsest.models.hooked import caught_inputs

_LORA = ".lora_"  # in the names of an adapter's own layers


def last_layer(model: nn.Module, outputs: int) -> nn.Module | None:
    """The last layer of a classifier, in the order of its modules, that is linear and has as many outputs as classes.

    With an adapter on it that is the layer below the adapter: its own layers come last, are linear, and the one of its
    outputs is as wide, but what enters that is no feature of the model.

    >>> last_layer(nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2)), 2)
    Linear(in_features=8, out_features=2, bias=True)
    """
    linear = [module for name, module in model.named_modules() if isinstance(module, nn.Linear) and _LORA not in name]
    return next((module for module in reversed(linear) if module.out_features == outputs), None)


def entering(head: nn.Module | None, model: Any, batch: Batch) -> Tensor:
    """What enters a head in one forward pass over a batch: (B, T, D), or (B, D) where the model pools before it.

    Raises:
        ModelError: there is no head.
    """
    if head is None:
        raise ModelError(f"a {type(model).__name__} has no linear layer that its outputs leave, so nothing enters one")
    with caught_inputs(head) as seen:
        batch.predict(model)
    return seen[-1]
