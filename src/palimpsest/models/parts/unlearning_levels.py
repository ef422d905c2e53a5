"""The unlearning layers of a model by request: one level for each, found, fused and replaced together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import nn

from palimpsest.data.encode.batch import ExampleSet
from palimpsest.errors import ModelError
from palimpsest.models.modes import asked
from palimpsest.models.parts import attach, detach, parts_of_kind
from palimpsest.models.parts.unlearning_layer import Grams, UnlearningLayer, fused_layer, recording
from palimpsest.models.scope import tensor_digest
from palimpsest.records import digest

if TYPE_CHECKING:
    from palimpsest.companions.grams import GramMatrices

LayerLevel = Sequence[UnlearningLayer]


def layers_of(model: Any) -> list[UnlearningLayer]:
    """All unlearning layers of a model, the oldest first."""
    return parts_of_kind(model, UnlearningLayer)


def state_digest(layer: UnlearningLayer) -> str:
    """Of its tensors: the same for a layer that was saved and loaded again."""
    return digest({name: tensor_digest(tensor) for name, tensor in layer.state_dict().items()})


def earlier_levels(model: Any, places: Sequence[str]) -> list[list[UnlearningLayer]]:
    """Layers of earlier requests, a list for each, if they can be fused with new ones.

    Args:
        model: with its layers.
        places: of the new ones.

    Raises:
        ModelError: they are not at the places of the new ones.
    """
    levels = _by_request([layer for layer in layers_of(model) if not layer.is_new])
    for level in levels:
        _check_same_places([layer.config.at for layer in level], places)
    return levels


def _by_request(layers: LayerLevel) -> list[list[UnlearningLayer]]:
    """A place that comes again begins the next request."""
    levels: list[list[UnlearningLayer]] = []
    for layer in layers:
        if not levels or layer.config.at in [one.config.at for one in levels[-1]]:
            levels.append([])
        levels[-1].append(layer)
    return levels


def _check_same_places(there: Sequence[str], places: Sequence[str]) -> None:
    if list(there) == list(places):
        return
    odd = next(iter(sorted(set(there) ^ set(places))), there[0])
    raise ModelError(
        f"layers of different places cannot be fused: an earlier request has them at {len(there)} places, this one at "
        f"{len(places)} (only one of the two at {odd}); give the same at and form, or eul.fuse=false"
    )


def moments_at(grams: Any, level: LayerLevel) -> dict[str, Grams]:
    """Place -> Gram matrices that a level was learned on.

    Args:
        grams: the companion; None where there is none.
        level: layers of one request, or fused of several.

    Raises:
        ModelError: they are not kept.
    """
    if grams is None:
        raise ModelError(
            "the model has unlearning layers and no Gram matrices beside it, so that they cannot be fused; unlearn "
            "every request with eul.fuse=true, or stack (eul.fuse=false)"
        )
    companion: GramMatrices = grams
    return {layer.config.at: companion.moments_of(layer.config.at, state_digest(layer)) for layer in level}


def gram_matrices(model: Any, layers: LayerLevel, examples: ExampleSet) -> dict[str, Grams]:
    """Place -> Gram matrices over the positions of some examples, one by one: padding enters none."""
    where = next(model.parameters()).device
    with asked(model), recording(layers):
        for example_id in examples.ids:
            examples.plain().batch([example_id]).to(where).predict(model)
    return {layer.config.at: layer.grams for layer in layers}


def fused_levels(
    levels: Sequence[LayerLevel], moments: Sequence[Mapping[str, Grams]], ridge: float
) -> list[UnlearningLayer]:
    """One layer for each place, of all levels."""
    columns = zip(*levels, strict=True)
    return [fused_layer(column, [one[column[0].config.at] for one in moments], ridge) for column in columns]


def put_in_place(model: nn.Module, made: LayerLevel) -> LayerLevel:
    """Take all unlearning layers off a model, and put these on instead, frozen."""
    detach(model, layers_of(model))
    for layer in made:
        layer.is_new = True
        layer.requires_grad_(False)
    attach(model, made)
    return made
