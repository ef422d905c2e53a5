"""A new backbone for a model: which tensors it has of its own, where they begin, and what is asked of it in training.

Shape legend: S rows of a batch, A rows of the auxiliary classifier, K classes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from palimpsest.data.encode.any_set import labels_of
from palimpsest.data.encode.batch import ExampleSet
from palimpsest.errors import ModelError
from palimpsest.models.activations import block_names
from palimpsest.models.families import of_model
from palimpsest.models.in_passes import in_passes
from palimpsest.models.modes import asked
from palimpsest.models.parts import ATTRIBUTE, bearer_of, new_parts_of
from palimpsest.models.parts.grown_backbones import (
    CopiedTensor,
    GrownBackbone,
    GrownBackboneConfig,
    grown_backbones_of,
)
from palimpsest.models.places import module_at, name_of_module

EARLIER_ROWS = ("retain", "replay")
"""Sets that hold rows of earlier tasks."""


def new_backbone(
    model: Any, names: Collection[str], *, auxiliary: int = 0, alone: bool = False, number: int = 0
) -> GrownBackbone:
    """A backbone that begins as the newest one of the model, with nothing to say.

    Args:
        model: with those of earlier runs.
        names: of the tensors that it has of its own.
        auxiliary: rows of its auxiliary classifier; they begin at random, so that the first step reaches the backbone.
        alone: it answers in the place of the model, and begins with the model's own tensors and head.
        number: by which it is known; 0 = the next one.
    """
    head, earlier = linear_head_of(model), grown_backbones_of(model)
    numbers = tuple(part.config.number for part in earlier)
    config = GrownBackboneConfig(
        at=name_of_module(bearer_of(model), head),
        number=number or max(numbers, default=0) + 1,
        reads=(0, *numbers),
        width=head.in_features,
        outputs=head.out_features,
        tensors=_copied_tensors(model, names),
        bias=not alone or head.bias is not None,
        auxiliary=auxiliary,
        alone=alone,
    )
    made = GrownBackbone(config)
    _begin_as(made, model, None if alone or not earlier else earlier[-1])
    if alone:
        _begin_with_head(made, head)
    if made.rows is not None:
        nn.init.kaiming_uniform_(made.rows, a=5**0.5)  # as torch begins a linear layer
    return made


def linear_head_of(model: Any) -> nn.Linear:
    """The linear layer that a classifier's logits leave.

    Raises:
        ModelError: it has none.
    """
    found = of_model(model).head(bearer_of(model))
    if not isinstance(found, nn.Linear):
        raise ModelError(
            f"a {type(model).__name__} has no linear layer as its head, so no backbone can be put beside its own; "
            "accepted: a classifier of images or texts with one"
        )
    return found


def names_before_head(model: Any) -> tuple[str, ...]:
    """All tensors that decide what enters the head: parameters, and what batch normalisation keeps."""
    inner = bearer_of(model)
    outside = (f"{name_of_module(inner, linear_head_of(model))}.", f"{ATTRIBUTE}.")
    counted = {name for name, module in inner.named_modules() if isinstance(module, _BatchNorm)}
    parameters = [name for name, _ in inner.named_parameters()]
    kept = [name for name, _ in inner.named_buffers() if name.rpartition(".")[0] in counted]
    return tuple(name for name in (*parameters, *kept) if not name.startswith(outside))


def names_of_last_blocks(model: Any, count: int, at: Sequence[str] = ()) -> tuple[str, ...]:
    """The tensors before the head of the last blocks, and of all that comes after them.

    Blocks are those of a stack of layers; of a model without one, its children.

    Args:
        model: as it is.
        count: of blocks.
        at: modules that are meant instead.

    Raises:
        ModelError: there is no such module, or nothing with tensors among them.
    """
    inner, all_names = bearer_of(model), names_before_head(model)
    for place in at:
        module_at(inner, place, "option at")
    chosen = _within_modules(all_names, at) if at else _from_last(all_names, _blocks(inner, all_names), count)
    if not chosen:
        raise ModelError(
            f"no tensor of a {type(inner).__name__} before its head lies in {', '.join(at) or 'its last blocks'}; "
            "name the modules that are to be new with the option at"
        )
    return chosen


def _within_modules(all_names: Sequence[str], modules: Sequence[str]) -> tuple[str, ...]:
    inside = tuple(f"{module}." for module in modules)
    return tuple(name for name in all_names if name.startswith(inside))


def _from_last(all_names: Sequence[str], blocks: Sequence[str], count: int) -> tuple[str, ...]:
    """From a block on, in the order of the model; all names where there are not so many blocks.

    What a layer keeps of the data goes with its weights.
    """
    if count > len(blocks):
        return tuple(all_names)
    first = next(number for number, name in enumerate(all_names) if name.startswith(f"{blocks[-count]}."))
    before = {name.rpartition(".")[0] for name in all_names[:first]}
    return tuple(name for name in all_names[first:] if name.rpartition(".")[0] not in before)


def _blocks(inner: nn.Module, all_names: Sequence[str]) -> Sequence[str]:
    """Blocks of the model's stack; without one the modules that it is made of, those with a tensor before the head."""
    if stack := block_names(inner):
        return stack
    prefix, children = "", _children(inner)
    while len(children) == 1:  # a wrapper
        prefix += f"{children[0]}."
        children = _children(inner.get_submodule(prefix[:-1]))
    return [f"{prefix}{name}" for name in children if any(n.startswith(f"{prefix}{name}.") for n in all_names)]


def _children(module: nn.Module) -> list[str]:
    return [name for name, _ in module.named_children() if name != ATTRIBUTE]


def _copied_tensors(model: Any, names: Collection[str]) -> tuple[CopiedTensor, ...]:
    inner, wanted = bearer_of(model), set(names)
    weights = {name for name, _ in inner.named_parameters()}
    return tuple(
        CopiedTensor(name=name, shape=tuple(tensor.shape), role=_role_of(name, tensor, weights))
        for name, tensor in (*inner.named_parameters(), *inner.named_buffers())
        if name in wanted
    )


def _role_of(name: str, tensor: Tensor, weights: Collection[str]) -> Literal["weight", "statistic", "count"]:
    if name in weights:
        return "weight"
    return "statistic" if tensor.is_floating_point() else "count"


@torch.no_grad()
def _begin_as(made: GrownBackbone, model: Any, earlier: GrownBackbone | None) -> None:
    """With the tensors of an earlier backbone; where it has none of its own, with the model's."""
    inner = bearer_of(model)
    own = {**dict(inner.named_parameters()), **dict(inner.named_buffers())}
    source = own if earlier is None else {**own, **earlier.tensors()}
    for name, tensor in made.tensors().items():
        tensor.copy_(source[name])


@torch.no_grad()
def _begin_with_head(made: GrownBackbone, head: nn.Linear) -> None:
    made.columns.copy_(head.weight)
    if made.bias is not None and head.bias is not None:
        made.bias.copy_(head.bias)


@torch.no_grad()
def take_its_place(model: Any, part: GrownBackbone) -> None:
    """Make the model's own tensors and head those of a backbone that answers alone; it may be detached then."""
    inner, head = bearer_of(model), linear_head_of(model)
    own = {**dict(inner.named_parameters()), **dict(inner.named_buffers())}
    for name, tensor in part.tensors().items():
        own[name].copy_(tensor)
    head.weight.copy_(part.columns)
    if part.bias is not None and head.bias is not None:
        head.bias.copy_(part.bias)


def new_grown_of(model: Any) -> tuple[GrownBackbone, ...]:
    """Those that the run at hand made."""
    return tuple(part for part in new_parts_of(model) if isinstance(part, GrownBackbone))


def freeze_all_but_new(model: Any) -> None:
    """Where the run made a backbone nothing else moves: not the model's own, nor an earlier one."""
    new = new_parts_of(model)
    if not new:
        return
    bearer_of(model).requires_grad_(False)
    for part in new:
        part.requires_grad_(True)


def classes_of_sets(sets: Mapping[str, ExampleSet], names: Collection[str]) -> tuple[int, ...]:
    """The classes that rows of some sets have, in order; none of tokens."""
    return tuple(sorted({label for name in names if name in sets for label in labels_of(sets[name]).tolist()}))


def classes_to_learn(sets: Mapping[str, ExampleSet]) -> tuple[int, ...]:
    """Classes that are learned and that the memory has no rows of; where it has of all, all that are learned."""
    learned, known = classes_of_sets(sets, ("learn",)), classes_of_sets(sets, EARLIER_ROWS)
    return tuple(c for c in learned if c not in known) or learned


def is_first_task(model: Any, sets: Mapping[str, ExampleSet]) -> bool:
    """Is there nothing to hold: neither a memory nor a backbone that was grown?"""
    return not set(EARLIER_ROWS) & set(sets) and not grown_backbones_of(model)


def new_or_old_targets(target_S: Int[Tensor, "S"], new: Sequence[int]) -> Int[Tensor, "S"]:
    """Each new class has a number of its own, all others the one after them.

    >>> new_or_old_targets(torch.tensor([7, 0, 5]), (5, 7)).tolist()
    [1, 2, 0]
    """
    is_new_SN = target_S[:, None] == torch.tensor(new, device=target_S.device)
    return torch.where(is_new_SN.any(dim=1), is_new_SN.int().argmax(dim=1), len(new))


def new_or_old_loss(
    logits_SA: Float[Tensor, "S A"], target_S: Int[Tensor, "S"], new: Sequence[int]
) -> Float[Tensor, ""]:
    """Cross-entropy of a classifier of the new classes and one for all the old, summed, nats.

    >>> round(new_or_old_loss(torch.zeros(2, 3), torch.tensor([5, 0]), (5, 7)).item(), 4)
    2.1972
    """
    return F.cross_entropy(logits_SA.float(), new_or_old_targets(target_S, new), reduction="sum")


def rows_of_classes(examples: ExampleSet, classes: int) -> Int[Tensor, "K"]:
    """How many rows of each of so many classes lie in a set; of tokens none do."""
    return torch.bincount(labels_of(examples), minlength=classes)


def class_feature_means(model: nn.Module, sets: Mapping[str, ExampleSet], rows: int = 64) -> dict[int, Tensor]:
    """Mean of what enters the head over the rows of each class, in double precision, as the model answers when asked.

    Args:
        model: a classifier.
        sets: those that a task learns and holds are gone through, without augmentation.
        rows: of a pass.
    """
    sums: dict[int, Tensor] = {}
    counts: Counter[int] = Counter()
    with asked(model):
        for plain in (sets[name].plain() for name in ("learn", *EARLIER_ROWS) if name in sets):
            for batch in in_passes(model, plain, rows):
                features = of_model(model).features(model, batch).double()
                for row, label in zip(features, batch.target_S.tolist(), strict=True):
                    sums[label] = sums[label] + row if label in sums else row
                    counts[label] += 1
    return {label: total / counts[label] for label, total in sums.items()}
