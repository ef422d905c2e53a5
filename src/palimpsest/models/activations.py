"""What goes on inside a model: its blocks by name, and what one of its modules gives at the scored positions.

Shape legend: B examples, T tokens, S scored positions, D width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from palimpsest.data.encode.batch import Batch, Predictions, TextBatch
from palimpsest.errors import ModelError
from palimpsest.models.hooked import hooked
from palimpsest.models.parts import ATTRIBUTE


def block_names(model: nn.Module, side: str = "decoder") -> tuple[str, ...]:
    """Names of a model's blocks, the first to run first: the longest list of modules that lies in no other; or none.

    Parts are none. Of a model with an encoder and a decoder those of the decoder, which alone sees what is written,
    unless the other side is asked for.

    >>> block_names(nn.ModuleDict({"layers": nn.ModuleList([nn.Linear(1, 1), nn.Linear(1, 1)])}))
    ('layers.0', 'layers.1')
    """
    lists = {name: len(found) for name, found in _own_modules(model).items() if isinstance(found, nn.ModuleList)}
    outer = {n: size for n, size in lists.items() if not any(n.startswith(f"{other}.") for other in lists)}
    writing = {name: size for name, size in outer.items() if side in name.split(".")} or outer
    longest = max(writing, key=writing.__getitem__, default="")
    return tuple(f"{longest}.{number}" for number in range(outer.get(longest, 0)))


def _own_modules(model: nn.Module) -> dict[str, nn.Module]:
    """The modules of a model by their names, without those of its parts."""
    return {name: found for name, found in model.named_modules() if not name.startswith(ATTRIBUTE)}


def activations_of(model: nn.Module, place: str, batch: Batch) -> tuple[Float[Tensor, "S D"], Predictions]:
    """What a module gives at the scored positions of a batch, as the batch shows them, and what the model says there.

    Args:
        model: as it is asked.
        place: name of a module in it whose output is (B, T, D), alone or first in a tuple.
        batch: of texts; one forward pass, or one for each side of a border in the model's positions.
    """
    found, said = several_activations_of(model, (place,), batch)
    return found[place], said


def several_activations_of(
    model: nn.Module, places: Sequence[str], batch: Batch
) -> tuple[dict[str, Float[Tensor, "S *D"]], Predictions]:
    """What modules give at the scored positions, by their names; as ``activations_of``, in the same one pass."""
    with outputs_seen(model, places) as seen:
        said = batch.predict(model)
    return {place: batch.gather(whole_output(model, batch.bare, passes)) for place, passes in seen.items()}, said


def inputs_of(model: nn.Module, place: str, batch: Batch) -> Float[Tensor, "S F"]:
    """What enters a module at the scored positions of a batch, as the batch shows them.

    Args:
        model: as it is asked.
        place: name of a module in it whose first argument is (B, T, F).
        batch: of texts.
    """
    with inputs_seen(model, (place,)) as seen:
        batch.predict(model)
    return batch.gather(whole_output(model, batch.bare, seen[place]))


@contextmanager
def inputs_seen(model: nn.Module, places: Sequence[str]) -> Iterator[dict[str, list[Tensor]]]:
    """What enters modules in the block, pass by pass, by their names."""
    with _told(model, places, "register_forward_pre_hook") as seen:
        yield seen


@contextmanager
def _told(model: nn.Module, places: Sequence[str], kind: str) -> Iterator[dict[str, list[Tensor]]]:
    """What a kind of hook is told last in the block, the first of several, by the names of the modules."""
    seen: dict[str, list[Tensor]] = {place: [] for place in places}

    def keep(place: str) -> Any:
        def hook(_module: nn.Module, *told: Any) -> None:
            seen[place].append(told[-1][0] if isinstance(told[-1], tuple) else told[-1])

        return hook

    with hooked(getattr(model.get_submodule(place), kind)(keep(place)) for place in places):
        yield seen


@contextmanager
def outputs_seen(model: nn.Module, places: Sequence[str], *, scored: bool = True) -> Iterator[dict[str, list[Tensor]]]:
    """What modules give in the block, pass by pass, by their names.

    Args:
        model: as it is asked.
        places: names of modules.
        scored: it will be read where rows are scored.

    Raises:
        ModelError: one is of an encoder beside a decoder, which sees nothing of what is scored.
    """
    both = scored and getattr(getattr(model, "config", None), "is_encoder_decoder", False) is True
    unseeing = next((place for place in places if both and "encoder" in place.split(".")), None)
    if unseeing is not None:
        raise ModelError(f"{unseeing} sees the prompt alone, not what is scored; accepted: a decoder's module")
    with _told(model, places, "register_forward_hook") as seen:
        yield seen


def whole_output(model: nn.Module, batch: Batch, passes: Sequence[Tensor]) -> Tensor:
    """The outputs of the passes over a batch as one (B, T, D)."""
    if len(passes) == 1 or not isinstance(batch, TextBatch):
        return passes[0]
    whole_BTD = passes[0].new_zeros(*batch.input_ids_BT.shape, passes[0].shape[-1])
    for (rows, _), values in zip(batch.apart(model), passes, strict=True):
        whole_BTD[rows, : values.shape[1]] = values
    return whole_BTD
