"""The head of a classifier by the names of its weights, the classes that a set is of, and what enters the head of it.

Shape legend: N rows of a set, S scored positions, V classes, K classes at hand, D width of what enters the head.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from palimpsest.errors import PlanError
from palimpsest.models.current_classes import task_loss
from palimpsest.models.families import of_model
from palimpsest.models.families.heads import entering
from palimpsest.models.in_passes import in_passes
from palimpsest.models.modes import asked
from palimpsest.models.parts.class_head import refuse_replaced
from palimpsest.models.scope import trainable

_TOGETHER = 128  # rows of a forward pass
_OF_AN_ADAPTER = re.compile(r"\.(?:base_layer|lora_)")


class HeadIn(NamedTuple):
    """The head in a model.

    Attributes:
        name: of the module; with an adapter on it, of the module that holds both.
        module: gives logits for what enters it.
    """

    name: str
    module: nn.Module

    @property
    def pattern(self) -> str:
        """A regular expression that is found in the names of its weights alone."""
        return rf"(^|\.){re.escape(self.name)}\."

    def has(self, name: str) -> bool:
        """Is this one of its weights?"""
        return re.search(self.pattern, name) is not None


def head_in(model: Any, who: str) -> HeadIn:
    """The head of a classifier, some of which may move.

    Raises:
        PlanError: there is none, nothing of it may move, or a part answers in its place.
    """
    refuse_replaced(model, who)
    head = of_model(model).head(model)
    found = next((name for name, module in model.named_modules() if module is head and head is not None), None)
    if found is None:
        raise PlanError(f"method {who!r} trains the head of a classifier, and a {type(model).__name__} has none")
    name = _OF_AN_ADAPTER.split(found)[0]  # its own layers are linear and as wide, and come last
    place = HeadIn(name, model.get_submodule(name))
    if not any(place.has(moving) for moving in trainable(model)):
        raise PlanError(
            f"method {who!r} trains the head ({name}), and the scope freezes it; accepted: scope.kind = all, or names "
            f"that are found in it (scope.names)"
        )
    return place


def head_inputs(model: Any, examples: Any) -> Float[Tensor, "N D"]:
    """What enters the head for every row of a set, not augmented, the model in eval mode; on the CPU, in fp32.

    The model is as it was afterwards, running statistics and random numbers included.
    """
    head, found = head_in(model, "head_inputs").module, []
    with asked(model), torch.autocast(next(model.parameters()).device.type, enabled=False):
        for batch in (one.bare for one in in_passes(model, examples.plain(), _TOGETHER)):
            found.append(batch.gather(entering(head, model, batch)).float().cpu())
    return torch.cat(found)


def current_loss(
    logits_SV: Float[Tensor, "S V"], target_S: Int[Tensor, "S"], classes: Sequence[int]
) -> Float[Tensor, ""]:
    """−Σ log p where only some classes can be said, nats, fp32; head rows of the others get no gradient.

    One class alone would have nothing to learn; it is held against all others, as ``task_loss`` does.

    Args:
        logits_SV: of all classes.
        target_S: rows of the head, all among ``classes``.
        classes: K rows of the head, in rising order.

    >>> round(current_loss(torch.tensor([[9.0, 0.0, 0.0]]), torch.tensor([2]), [1, 2]).item(), 4)
    0.6931
    """
    at_K = torch.tensor(classes, device=logits_SV.device)
    if len(classes) == 1:
        return task_loss(logits_SV, target_S, torch.arange(logits_SV.shape[1], device=logits_SV.device) == at_K)
    return F.cross_entropy(logits_SV[:, at_K].float(), torch.searchsorted(at_K, target_S), reduction="sum")
