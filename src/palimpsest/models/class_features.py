"""What enters a classifier's head, row by row, and marks of the rows and of the backbone that made it.

Rows go through the model one at a time unless a caller wants it faster: so what a row says does not depend on who is
beside it, not even in the last bit.

Shape legend: N rows, D width of what enters the head, M features made of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from palimpsest.models.families import of_model
from palimpsest.models.in_passes import in_passes
from palimpsest.models.modes import asked
from palimpsest.models.parts import ATTRIBUTE, bearer_of, parts_of
from palimpsest.models.parts.class_head import ClassHead, head_place
from palimpsest.models.scope import tensor_digest
from palimpsest.records import digest

Making = Callable[[Tensor], Tensor]


class SeenRows(NamedTuple):
    """Rows as statistics count them.

    Attributes:
        ids: N of them.
        contents: digests of what the model was shown of each, and of its class.
        label_N: rows of the head.
        features_NM: what is counted.
    """

    ids: tuple[str, ...]
    contents: tuple[str, ...]
    label_N: Int[Tensor, "N"]
    features_NM: Float[Tensor, "N M"]


def seen_rows(
    model: nn.Module, examples: Any, ids: Sequence[str], *, rows: int = 1, making: Making | None = None
) -> SeenRows:
    """What enters the head for some rows.

    Args:
        model: a classifier; asked in eval mode.
        examples: of any family with classes.
        ids: N of them.
        rows: of a forward pass; more than one may change the last bits.
        making: features that are counted, of those that enter the head; None = these themselves.
    """
    plain, family = examples.plain(), of_model(model)
    found, labels = [], [torch.zeros(0, dtype=torch.long)]
    with asked(model):
        for batch in in_passes(model, plain, rows, ids):
            entering = family.features(model, batch).float()
            found.append((entering if making is None else making(entering)).cpu())
            labels.append(batch.target_S.cpu())
    width = head_place(model)[1].in_features
    features = torch.cat(found) if found else torch.zeros(0, width)
    contents = tuple(content_digest_of(plain, i) for i in ids)
    return SeenRows(tuple(ids), contents, torch.cat(labels), features)


def content_digest_of(examples: Any, example_id: str) -> str:
    """SHA-256 of what the model is shown of a row, and of its class."""
    batch = examples.plain().batch([example_id])
    shown = {**batch.inputs(), "class": batch.target_S}
    return hashlib.sha256("".join(name + tensor_digest(shown[name]) for name in sorted(shown)).encode()).hexdigest()


def backbone_digest(model: nn.Module) -> str:
    """Of all tensors of a model but those of its head and of the class heads at it."""
    bearer = bearer_of(model)
    place, _head = head_place(bearer)
    own = {name: t for name, t in bearer.state_dict().items() if not name.startswith((f"{place}.", f"{ATTRIBUTE}."))}
    others = [part for part in parts_of(bearer) if not isinstance(part, ClassHead)]
    beside = [[part.kind, part.alpha, _digests(part.state_dict())] for part in others]
    return digest([_digests(own), beside])


def _digests(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    return {name: tensor_digest(tensor) for name, tensor in tensors.items()}
