"""A head that knows more classes than before, or new ones alone.

    W' = [W; 0],  b' = [b; 0]        old rows as they were, to the bit; new rows say 0 of everything until they learn
    W' = 0,       b' = 0             of a new head

Rows begin at zero, so that no seed decides them, and what the model says of old classes hardly changes by growing.

Shape legend: C classes, D what enters the head.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from palimpsest.data.read.classes import NUMBERS_ARE_NAMES
from palimpsest.data.read.new_classes import NEW_HEAD, Head, head_with, names_in_order
from palimpsest.errors import ModelError
from palimpsest.models.at_hand import CUSTOM
from palimpsest.models.loaded import Loaded


def with_rows(head: nn.Linear, outputs: int, *, fresh: bool = False) -> None:
    """Give a linear layer further rows of zeros, in place; of a fresh one all are.

    >>> layer = nn.Linear(2, 1)
    >>> with_rows(layer, 3)
    >>> layer, layer.weight[1:].tolist()
    (Linear(in_features=2, out_features=3, bias=True), [[0.0, 0.0], [0.0, 0.0]])
    """
    for name in ("weight", "bias"):
        old: Tensor | None = getattr(head, name)
        if old is not None:
            new = old.new_zeros(outputs, *old.shape[1:])
            if not fresh:
                new[: len(old)] = old.detach()
            setattr(head, name, nn.Parameter(new, requires_grad=old.requires_grad))
    head.out_features = outputs


def grow(loaded: Loaded, added: Sequence[str], *, fresh: bool = False) -> Loaded:
    """Add classes to the head of a classifier, in place: parts that sit there stay.

    Args:
        loaded: a classifier.
        added: names of the classes, none of which it has.
        fresh: they take the place of the old ones.

    Returns:
        The same, with as many outputs, which its config names in their order.

    Raises:
        ModelError: it has no single linear layer that its classes leave.
    """
    model, family = loaded.model, loaded.family
    config = model.config
    after = head_with(NEW_HEAD if fresh else Head(loaded.num_outputs, loaded.class_names), added)
    head = family.head(model) if family.has_classes and config.model_type != CUSTOM else None
    if not isinstance(head, nn.Linear):
        raise ModelError(
            f"model {loaded.source} has no linear head of its own that could grow; accepted: a classifier of "
            "transformers or timm, or one of the small ResNets"
        )
    with_rows(head, after.classes, fresh=fresh)
    names = names_in_order(after)
    config.id2label = dict(enumerate(names))
    config.label2id = {name: number for number, name in enumerate(names)}
    setattr(config, NUMBERS_ARE_NAMES, after.names.by_name)
    for holder in (model, *model.modules()):
        if isinstance(getattr(holder, "num_labels", None), int):
            holder.num_labels = after.classes
    _check_wide(loaded, after.classes)
    return loaded


def _check_wide(loaded: Loaded, classes: int) -> None:
    """It still answers, with a logit for each class."""
    model: Any = loaded.model
    device = next(model.parameters()).device
    try:
        with torch.no_grad():
            wide = model(**{name: value.to(device) for name, value in loaded.family.probe(loaded).items()}).logits.shape
    except RuntimeError:
        wide = ()
    if len(wide) != 2 or wide[-1] != classes:
        raise ModelError(f"model {loaded.source}: its outputs leave more than one layer, so that its head cannot grow")
