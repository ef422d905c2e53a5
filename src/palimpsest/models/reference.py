"""The model as it was before the run, without a second copy of it where that can be avoided.

Under LoRA it is the same model with the adapter switched off. Under full fine-tuning the last hidden states of the
examples that will be asked for are kept on disk with a frozen copy of the output head: head(hidden) gives the exact
distribution in D instead of V numbers per position (1/65 of the space for GPT-2). One file per example, so that a
cached state can be deleted with the example it came from. Of images the logits are kept (class_logits.py); where they
are augmented no image comes twice, and a copy of the model is asked.

Shape legend: B examples, T tokens, S scored positions, D width, V vocabulary.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from palimpsest.data.encode.any_set import ClassSet
from palimpsest.data.encode.batch import Batch, ExampleSet, Predictions
from palimpsest.data.encode.varied import VariedSet
from palimpsest.durable import check_held_still
from palimpsest.models.activations import activations_of, outputs_seen
from palimpsest.models.class_logits import cache_logits
from palimpsest.models.hooked import caught_inputs
from palimpsest.models.in_passes import ways_through
from palimpsest.models.modes import asked, in_eval_mode
from palimpsest.models.parts import new_parts_of, off
from palimpsest.models.scope import trainable
from palimpsest.models.sealed import save_sealed

if TYPE_CHECKING:
    from palimpsest.models.parts.part import Part

POSITIONS_AT_ONCE = 64
_EXACT = 1e-4  # nats; largest logit difference at which head(hidden) counts as the model's own output


@runtime_checkable
class Reference(Protocol):
    """The model as it was before the run."""

    def predict(self, model: nn.Module, batch: Batch) -> Predictions:
        """What it says at the scored positions of a batch, without gradients."""


@runtime_checkable
class DeepReference(Reference, Protocol):
    """One that also remembers what modules of the model gave."""

    def outputs(self, model: nn.Module, batch: Batch, place: str) -> Tensor:
        """What the module of this name gave at the scored positions of a batch, (S, D), without gradients."""


class AdapterOff:
    """Reference of a LoRA run: the adapter is switched off for one forward pass."""

    def predict(self, model: nn.Module, batch: Batch) -> Predictions:
        """What the model said before the run."""
        inner: Any = getattr(model, "module", model)
        with inner.disable_adapter(), in_eval_mode(inner):
            return batch.predict(inner)

    def outputs(self, model: nn.Module, batch: Batch, place: str) -> Tensor:
        """What a module gave before the run."""
        inner: Any = getattr(model, "module", model)
        with inner.disable_adapter(), in_eval_mode(inner):
            return activations_of(inner, place, batch)[0]


class PartsOff:
    """Reference of a run that moves new parts alone: they, and an adapter, are switched off for one forward pass."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self._parts = tuple(parts)

    def predict(self, model: nn.Module, batch: Batch) -> Predictions:
        """What the model said before the run, with the parts of earlier ones."""
        inner: Any = getattr(model, "module", model)
        without = inner.disable_adapter() if hasattr(inner, "disable_adapter") else nullcontext()
        with off(inner, self._parts), without, in_eval_mode(inner):
            return batch.predict(inner)

    def outputs(self, model: nn.Module, batch: Batch, place: str) -> Tensor:
        """What a module gave before the run."""
        inner: Any = getattr(model, "module", model)
        without = inner.disable_adapter() if hasattr(inner, "disable_adapter") else nullcontext()
        with off(inner, self._parts), without, in_eval_mode(inner):
            return activations_of(inner, place, batch)[0]


class FrozenCopy:
    """Reference of last resort: a whole second model, for augmented images and models that change their logits."""

    def __init__(self, model: nn.Module) -> None:
        self._copy = copy.deepcopy(model).eval().requires_grad_(False)

    def predict(self, model: nn.Module, batch: Batch) -> Predictions:
        """What the model said before the run; ``model`` itself is not asked."""
        return batch.predict(self._copy)

    def outputs(self, model: nn.Module, batch: Batch, place: str) -> Tensor:
        """What a module gave before the run."""
        return activations_of(self._copy, place, batch)[0]


class CachedReference:
    """Reference of a full fine-tuning run: hidden states and a frozen head, both on disk."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def hidden_SD(self, batch: Batch) -> Tensor:
        """Last hidden states at the scored positions of a batch, rows in order, (S, D)."""
        return self._rows(batch, "hidden_SD")

    def outputs(self, model: nn.Module, batch: Batch, place: str) -> Tensor:
        """What a module gave before the run; one of the ``places`` that the reference was built with."""
        return self._rows(batch, f"{place}_SD").to(batch.target_S.device)

    def _rows(self, batch: Batch, name: str) -> Tensor:
        rows = []
        for example_id in batch.ids:
            with safe_open(self._folder / _file_of(example_id), framework="pt") as file:
                rows.append(file.get_tensor(name))
        return torch.cat(rows)

    def predict(self, model: nn.Module, batch: Batch) -> Predictions:
        """What the model said before the run, from the cache."""
        target_S, owner_S = batch.target_S, batch.owner_S
        device = target_S.device
        # Read anew each time: kept, the head would stand beside the model for the whole run (a quarter of GPT-2).
        head = {name: tensor.to(device) for name, tensor in load_file(self._folder / "head.safetensors").items()}
        logits_SV = F.linear(self.hidden_SD(batch).to(device), head["weight"], head.get("bias"))
        return Predictions(logits_SV, target_S, owner_S, len(batch))

    def holds(self, ids: Iterable[str]) -> frozenset[str]:
        """Those of some examples whose states are there."""
        return frozenset(i for i in ids if (self._folder / _file_of(i)).is_file())

    def forget(self, ids: Iterable[str]) -> None:
        """Delete the cached states of these examples; ids without one are passed over."""
        check_held_still(self._folder)
        for example_id in ids:
            (self._folder / _file_of(example_id)).unlink(missing_ok=True)


def build_reference(
    model: Any,
    sets: Mapping[str, ExampleSet],
    folder: Path,
    *,
    batch_size: int = 16,
    as_it_is: bool = False,
    places: Sequence[str] = (),
) -> Reference:
    """The cheapest exact reference for a model that is about to change.

    Args:
        model: before its first step, on its device; a PEFT model when the scope is LoRA.
        sets: the sets on which the reference will be asked.
        folder: where hidden states are cached; created, and re-used when it is complete.
        batch_size: examples per forward pass while caching.
        as_it_is: the reference is the model with what its adapter has learned so far, not the one before.
        places: modules of the model, by name, whose outputs will be asked for; of texts.
    """
    new = new_parts_of(model)
    if new and not as_it_is and _stands_still(model, new):
        return PartsOff(new)
    if hasattr(model, "disable_adapter") and not as_it_is and not new:
        return AdapterOff()
    with off(model, new) if new and not as_it_is else nullcontext():
        return _kept_or_copied(model, sets, folder, batch_size, places)


def _stands_still(model: Any, new: Sequence[Part]) -> bool:
    """Does nothing of the model move but its new parts and an adapter, which can be switched off?"""
    free = {id(parameter) for part in new for parameter in part.parameters()}
    moving = [name for name, parameter in trainable(model).items() if id(parameter) not in free]
    in_adapter = [name for name in moving if ".lora_" in name] if hasattr(model, "disable_adapter") else []
    return moving == in_adapter and not _counts(model)


def _counts(model: nn.Module) -> bool:
    """Has it batch normalisation, which goes on counting in training mode?"""
    return any(getattr(module, "track_running_stats", False) for module in model.modules())


def _kept_or_copied(
    model: Any, sets: Mapping[str, ExampleSet], folder: Path, batch_size: int, places: Sequence[str]
) -> Reference:
    """What the model says now, from a cache where that is exact, else from a copy."""
    if any(isinstance(examples, VariedSet) for examples in sets.values()):
        return FrozenCopy(model)  # what a cache has under the id of a row is of one of its forms
    classes = {name: examples for name, examples in sets.items() if isinstance(examples, ClassSet)}
    if classes:
        augmented = any(getattr(examples, "augment", None) is not None for examples in classes.values())
        return FrozenCopy(model) if augmented else cache_logits(model, classes, folder, batch_size=batch_size)
    head = model.get_output_embeddings()
    if head is None or not _fill_cache(model, head, sets, folder, batch_size=batch_size, places=places):
        return FrozenCopy(model)
    return CachedReference(folder)


def _fill_cache(
    model: Any, head: Any, sets: Mapping[str, ExampleSet], folder: Path, *, batch_size: int, places: Sequence[str]
) -> bool:
    """Write hidden states of all sets; False when head(hidden) is not what the model outputs.

    Of forget rows some losses need less than a distribution (NPO one number a row), but which is the method's affair;
    what is kept here says the rows, so it is for its owner alone and goes when the run ends, well or not.
    """
    folder.mkdir(parents=True, exist_ok=True)
    weights = {"weight": head.weight} if getattr(head, "bias", None) is None else dict(head.named_parameters())
    save_sealed(weights, folder / "head.safetensors")
    device = next(model.parameters()).device
    with asked(model):
        for examples, ids in _batches(sets, batch_size):
            # A batch is done whole or again: in other company the last bits of a state would differ.
            if all((folder / _file_of(i)).exists() for i in ids):
                continue
            for batch in ways_through(model, examples.batch(ids).to(device)):
                with outputs_seen(model, places) as seen:
                    hidden_SD, predictions = _hidden_states(model, head, batch)
                if not _is_exact(head, hidden_SD, predictions.logits_SV):
                    return False
                kept = {"hidden_SD": hidden_SD} | {f"{n}_SD": batch.gather(one[0]) for n, one in seen.items()}
                _save_rows(kept, predictions.owner_S, batch.ids, folder)
    return True


def _save_rows(kept: Mapping[str, Tensor], owner_S: Tensor, ids: Sequence[str], folder: Path) -> None:
    """A file of each row of a batch."""
    for row, example_id in enumerate(ids):
        own = {name: values[owner_S == row] for name, values in kept.items()}
        save_sealed(own, folder / _file_of(example_id))  # head @ hidden says the row


def _is_exact(head: Any, hidden_SD: Tensor, logits_SV: Tensor) -> bool:
    """Is head(hidden) what the model said? Looked at a few positions at a time."""
    bias = getattr(head, "bias", None)
    parts = zip(*(torch.split(t, POSITIONS_AT_ONCE) for t in (hidden_SD, logits_SV)), strict=True)
    return not any((F.linear(h, head.weight, bias) - said).abs().max() > _EXACT for h, said in parts)


def _batches(sets: Mapping[str, ExampleSet], batch_size: int) -> Iterator[tuple[ExampleSet, list[str]]]:
    """The ids of all sets in batches; an id that several sets share comes once."""
    seen: set[str] = set()
    for examples in sets.values():
        ids = [i for i in examples.ids if i not in seen]
        seen.update(ids)
        for start in range(0, len(ids), batch_size):
            yield examples, ids[start : start + batch_size]


def _hidden_states(model: Any, head: nn.Module, batch: Batch) -> tuple[Tensor, Predictions]:
    """What enters the output head at the scored positions, (S, D), with the predictions that left it."""
    with caught_inputs(head) as seen:
        predictions = batch.predict(model)
    return batch.gather(seen[0]), predictions


def _file_of(example_id: str) -> str:
    """File name of an example's state; a digest, because an id may hold any character."""
    return hashlib.sha256(example_id.encode()).hexdigest()[:32] + ".safetensors"
