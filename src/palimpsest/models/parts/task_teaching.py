"""What every learner with views does around the teaching of a task: rows that are trained, and a head without them.

Shape legend: C classes, D width of what enters the head, N rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Int
from torch import Tensor

from palimpsest.models.families import of_model
from palimpsest.models.modes import asked
from palimpsest.models.parts import ATTRIBUTE, attach, detach, off, parts_of
from palimpsest.models.parts.task_views import acting_alone
from palimpsest.models.parts.views_head import OfViews, ViewsHead, unknown_classes

_ROWS = 64  # in a pass


def classes_in(examples: Any, num_classes: int) -> Bool[Tensor, "C"]:
    """Which classes a set has rows of."""
    there_C = torch.zeros(num_classes, dtype=torch.bool)
    there_C[labels_in(examples)] = True
    return there_C


def labels_in(examples: Any) -> Int[Tensor, "N"]:
    """The classes of a set's rows, in its order."""
    plain = examples.plain()
    known: Tensor | None = getattr(plain, "label_N", None)
    return plain.batch(plain.ids).target_S if known is None else known.cpu()


def teaches_new_classes(model: Any, sets: Mapping[str, Any]) -> bool:
    """Is there a class in the learn set that no class head of the model answers for?"""
    return "learn" in sets and unknown_classes(model, classes_in(sets["learn"], of_model(model).num_outputs(model)))


@torch.no_grad()
def start_rows(model: Any, head: ViewsHead, examples: Any, task: int) -> str:
    """Have the rows of the classes in a set begin at their mean features, of length 1.

    Args:
        model: bears the head.
        head: its other rows stay.
        examples: of the classes that are to be taught.
        task: whose view is looked at.

    Returns:
        The name of the tensor, as in the model's state dict.
    """
    plain, family, where = examples.plain(), of_model(model), head.class_rows.device
    total_CD = torch.zeros_like(head.class_rows, dtype=torch.float64)
    with asked(model), off(model, [head]), acting_alone(model, task):
        for start in range(0, len(plain), _ROWS):
            batch = plain.batch(plain.ids[start : start + _ROWS]).to(where)
            total_CD.index_add_(0, batch.target_S, F.normalize(family.features(model, batch).double(), dim=-1))
    there_C = classes_in(examples, len(total_CD)).to(where)
    head.class_rows[there_C] = F.normalize(total_CD[there_C], dim=-1).to(head.class_rows)
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
