"""A model between two others: every weight so much of the one and so much of the other.

Source: Wang et al. 2024, arXiv:2406.09179, "model mixing".

    θ(α) = (1 − α) θ_before + α θ_after,    0 ≤ α ≤ 1

α = 0 is the model before to the bit, α = 1 the model after. One model is in memory, and one tensor of the other; what
was moved is laid back from where it is stored. Floating buffers (the statistics of batch normalisation) are mixed like
weights, its counter of batches is taken from the model after, and any other whole numbers must be equal.

Departs from the paper: none; its code mixes the other way round, by the share of the model before.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from palimpsest.errors import ModelError, PlanError
from palimpsest.models.adapter_deltas import AdapterTensors
from palimpsest.models.load import Loaded
from palimpsest.models.stored import Tensors, once

_COUNTER = "num_batches_tracked"


class MixedPlace(NamedTuple):
    """A tensor of the model in memory that mixing moves.

    Attributes:
        name: one of its names, by which the other model is asked.
        tensor: in the model.
    """

    name: str
    tensor: Tensor


def mix_(tensor: Tensor, other: Tensor, alpha: float) -> None:
    """Move a tensor to (1 − α) tensor + α other, in place.

    Args:
        tensor: any floating dtype and device.
        other: of the same shape; a whole-number tensor is taken as it is.
        alpha: 0 to 1; at the ends the bits are those of the one or the other, also of what is not finite.

    >>> weight = torch.tensor([0.0, 4.0])
    >>> mix_(weight, torch.tensor([4.0, 0.0]), 0.25)
    >>> weight.tolist()
    [1.0, 3.0]
    """
    if alpha == 0:
        return
    other = other.to(tensor.device, tensor.dtype)
    with torch.no_grad():
        if alpha == 1 or not tensor.is_floating_point():
            tensor.copy_(other)
        else:
            tensor.mul_(1 - alpha).add_(other, alpha=alpha)


@contextmanager
def mixed(before: Loaded, after: Loaded | Tensors, alpha: float, *, own: Tensors | None = None) -> Iterator[Any]:
    """The model before, moved the share ``alpha`` of the way to the model after; undone to the bit on leaving.

    Args:
        before: the model in memory.
        after: the other model: in memory, or its tensors as they are stored (``stored.py``, ``adapter_deltas.py``).
            What an adapter leaves alone is as in the model before.
        alpha: 0 to 1.
        own: where the tensors of the model before are read again from; None = a copy of each is kept in memory.

    Yields:
        The module of the model before, mixed.

    Raises:
        PlanError: ``alpha`` is none.
        ModelError: the two are not of one shape.
    """
    if not 0 <= alpha <= 1:
        raise PlanError(f"alpha is {alpha!r}; accepted: 0 (as before) to 1 (as after)")
    theirs = _tensors_of(after)
    places = places_in(before.model, theirs, before.source) if alpha else []
    kept: Tensors = {p.name: p.tensor.detach().clone() for p in places} if own is None else own
    try:
        for place in places:
            mix_(place.tensor, theirs[place.name], alpha)
        yield before.model
    finally:
        _lay_back(places, kept)


def places_in(model: nn.Module, theirs: Tensors, source: str) -> list[MixedPlace]:
    """Where the tensors of another model belong in a model in memory; one that is shared is there once.

    Args:
        model: in memory.
        theirs: of the other; all of them, or those that an adapter changes.
        source: of the model in memory, for the error.

    Raises:
        ModelError: names or shapes differ, or whole numbers; or it shares a tensor that the other has twice.
    """
    groups = once(model)
    known = {name for group in groups for name in group}
    strangers = sorted(theirs.keys() - known)
    if strangers:
        raise ModelError(not_alike(source, f"{strangers[0]} is in one of them only"))
    found = []
    for group, tensor in groups.items():
        names = [name for name in group if name in theirs]
        if names:
            _check_place(names, tensor, theirs, source)
            found.append(MixedPlace(names[0], tensor))
        elif not isinstance(theirs, AdapterTensors):
            raise ModelError(not_alike(source, f"{group[0]} is in one of them only"))
    return found


def _check_place(names: list[str], tensor: Tensor, theirs: Tensors, source: str) -> None:
    """Refuse a tensor that cannot be mixed with the other model's."""
    other = theirs[names[0]]
    if other.shape != tensor.shape:
        shapes = f"{tuple(tensor.shape)} in one and {tuple(other.shape)} in the other"
        raise ModelError(not_alike(source, f"{names[0]} is {shapes}"))
    if any(not torch.equal(other, theirs[name]) for name in names[1:]):
        raise ModelError(not_alike(source, f"{' and '.join(names)} are one tensor in one and two in the other"))
    if not _is_mixable(names[0], tensor, other):
        raise ModelError(not_alike(source, f"{names[0]} holds whole numbers that differ, which cannot be mixed"))


def _is_mixable(name: str, tensor: Tensor, other: Tensor) -> bool:
    """Are both floating, or both whole numbers that are equal or nothing but a counter?"""
    if tensor.is_floating_point() or other.is_floating_point():
        return tensor.is_floating_point() and other.is_floating_point()
    return name.endswith(_COUNTER) or torch.equal(tensor.cpu(), other.cpu())


def not_alike(source: str, why: str) -> str:
    """Why two models cannot be mixed, as an error says it."""
    return (
        f"model {source} and the one it is to be mixed with are not of one shape: {why}; give a model and one that "
        "was made from it"
    )


def _tensors_of(model: Loaded | Tensors) -> Tensors:
    if isinstance(model, Mapping):
        return model
    return {name: tensor.detach() for group, tensor in once(model.model).items() for name in group}


def _lay_back(places: list[MixedPlace], kept: Tensors) -> None:
    with torch.no_grad():
        for place in places:
            place.tensor.copy_(kept[place.name])
