"""What every learner with views does around the teaching of a task: rows that are trained, and a head without them.

Shape legend: C classes, D width of what enters the head, N rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from palimpsest.data.encode.any_set import labels_of
from palimpsest.models.families import of_model
from palimpsest.models.in_passes import in_passes
from palimpsest.models.modes import asked
from palimpsest.models.parts import ATTRIBUTE, attach, detach, off, parts_of
from palimpsest.models.parts.block_adapter import new_adapter
from palimpsest.models.parts.class_head import fitted_head, head_place
from palimpsest.models.parts.task_views import acting_alone, tasks_of
from palimpsest.models.parts.views_head import OfViews, ViewsHead, new_views_head, unknown_classes

_ROWS = 64  # in a pass


def classes_of_rows(examples: Any, num_classes: int) -> Bool[Tensor, "C"]:
    """Which classes a set has rows of."""
    there_C = torch.zeros(num_classes, dtype=torch.bool)
    there_C[labels_of(examples)] = True
    return there_C


def taught_sets(model: Any, sets: Mapping[str, Any]) -> tuple[str, ...]:
    """Which of "learn" and "replay" have a class that no class head of the model answers for: a task is taught on them.

    Args:
        model: as it was before the run.
        sets: that were given.
    """
    num = of_model(model).num_outputs(model)
    there = [name for name in ("learn", "replay") if name in sets]
    return tuple(name for name in there if unknown_classes(model, classes_of_rows(sets[name], num)))


def teach_task(head: ViewsHead, sets: Mapping[str, Any], taught: Sequence[str], task: int) -> None:
    """Have a head be the classifier of a task, among all classes in the sets that it is taught on.

    Args:
        head: new.
        sets: that were given.
        taught: names of some.
        task: its number.
    """
    masks = [classes_of_rows(sets[name], head.config.classes) for name in taught]
    head.teach(torch.stack(masks).any(dim=0), task)


def parts_of_task(
    model: Any,
    kind: type[OfViews],
    options: Any,
    sets: Mapping[str, Any],
    *,
    fixed: Mapping[str, Any] = MappingProxyType({}),
    has_rows: bool,
) -> list[Any]:
    """For new classes a head with one view more, and the adapter of that view; else the head that is there.

    Args:
        model: at the weights that the run starts from.
        kind: of the head.
        options: of the method: those of the head, with ``at``, ``rank`` and ``adapter_scale``.
        sets: that were given.
        fixed: options of the head that the method does not leave open.
        has_rows: has the head its trained rows where nothing is taught, too?

    Raises:
        ModelError: nothing is taught, and there is no such head.
    """
    tasks, taught = tasks_of(model), taught_sets(model, sets)
    if not taught:
        fitted_head(model, kind)
        return [new_views_head(model, kind, options, tasks, {**fixed, "has_rows": has_rows})]
    task = max(tasks, default=0) + 1
    adapter = new_adapter(model, options.at, task, options.rank, options.adapter_scale)
    head = new_views_head(model, kind, options, (*tasks, task), {**fixed, "has_rows": True})
    teach_task(head, sets, taught, task)
    return [head, adapter]


def sets_of_task(head: ViewsHead, sets: Mapping[str, Any]) -> tuple[str, ...]:
    """The sets that a head is taught on: those without a class of another task; () where it is not taught."""
    taught_C = head.teaches_C
    if taught_C is None:
        return ()
    there = [name for name in ("learn", "replay") if name in sets]
    return tuple(name for name in there if not bool((classes_of_rows(sets[name], len(taught_C)) & ~taught_C).any()))


@torch.no_grad()
def start_rows(model: Any, head: ViewsHead, sets: Sequence[Any], task: int) -> str:
    """Have the rows of the classes in some sets begin at their mean features, of length 1.

    Args:
        model: bears the head.
        head: its other rows stay.
        sets: of the classes that are to be taught.
        task: whose view is looked at.

    Returns:
        The name of the tensor, as in the model's state dict.
    """
    with off(model, [head]):
        means_CD = F.normalize(torch.stack([unit_means(model, one, task) for one in sets]).sum(dim=0), dim=-1)
    there_C = means_CD.any(dim=-1)
    head.class_rows[there_C] = means_CD[there_C].to(head.class_rows)
    return rows_name(model, head)


@torch.no_grad()
def unit_means(model: Any, examples: Any, task: int) -> Float[Tensor, "C D"]:
    """Mean of what enters the head in a view, each row of length 1 and the mean, too; zeros of classes without rows.

    Args:
        model: without a head that goes through views of its own, or with it off.
        examples: of some classes.
        task: whose view is looked at.
    """
    family, where = of_model(model), next(model.parameters()).device
    _place, linear = head_place(model)
    total_CD = torch.zeros(linear.out_features, linear.in_features, dtype=torch.float64, device=where)
    with asked(model), acting_alone(model, task):
        for batch in in_passes(model, examples.plain(), _ROWS):
            total_CD.index_add_(0, batch.target_S, F.normalize(family.features(model, batch).double(), dim=-1))
    return F.normalize(total_CD, dim=-1)


@torch.no_grad()
def rows_at(model: Any, head: ViewsHead, means_CD: Float[Tensor, "C D"], present_C: Bool[Tensor, "C"]) -> str:
    """Have the rows of the first C classes at their means, of length 1, and no other class there.

    Args:
        model: bears the head.
        head: its further rows stay.
        means_CD: in any precision.
        present_C: which classes there are.

    Returns:
        The name of the tensor, as in the model's state dict.
    """
    count = len(present_C)
    head.present_C.zero_()
    head.present_C[:count] = present_C.to(head.present_C.device)
    head.own_C.masked_fill_(~head.present_C, 0)
    head.class_rows[:count] = F.normalize(torch.where(present_C[:, None], means_CD, 0.0), dim=-1).to(head.class_rows)
    return rows_name(model, head)


def rows_name(model: Any, head: ViewsHead) -> str:
    """Name of its trained rows, as in the state dict of the model that bears it."""
    number = next(number for number, part in enumerate(parts_of(model)) if part is head)
    return f"{ATTRIBUTE}.{number}.class_rows"


def rebuilt(model: Any, head: OfViews, **options: Any) -> OfViews:
    """A head with other options in the place of one; what both have is taken over.

    Args:
        model: bears the head.
        head: off the model afterwards.
        options: of the new one, e.g. has_rows=False once a task is taught.
    """
    made = type(head)(head.config.model_copy(update=options))
    made.take_over(head)
    made.is_new, made.continues, made.made_by, made.alpha = True, True, head.made_by, head.alpha
    parts = [made if part is head else part for part in parts_of(model)]
    detach(model)
    attach(model, parts)
    return made
