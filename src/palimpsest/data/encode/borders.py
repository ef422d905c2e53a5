"""Lengths at which a model's position scheme changes: rows on the two sides of one are never read in one pass.

"longrope" (Phi-3 and its kin) turns the positions of *all* rows of a pass by other frequencies as soon as the longest
of them is longer than what the model was first trained on: beside a long row a short one would be answered otherwise
than alone, and keys kept from a longer pass are no longer those of a shorter prefix. "dynamic" changes at the longest
text that the model takes, and longer ones are refused anyway.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

_CHANGES = "longrope"
_BORDER = "original_max_position_embeddings"


def borders_of(model: nn.Module) -> tuple[int, ...]:
    """Lengths behind which the frequencies are others, ascending; empty for nearly every model."""
    found = {border for module in model.modules() if "rope_type" in vars(module) for border in _borders(module)}
    return tuple(sorted(found))


def _borders(module: Any) -> Iterator[int]:
    """Of one table of rotary positions, which may have a scheme for each kind of layer."""
    if isinstance(module.rope_type, dict):
        of_layers = {kind for kind, scheme in module.rope_type.items() if scheme == _CHANGES}
        yield from (int(module.config.rope_parameters[kind][_BORDER]) for kind in of_layers)
    elif module.rope_type == _CHANGES:
        yield int(module.config.rope_parameters[_BORDER])


def side_of(length: int, borders: tuple[int, ...]) -> int:
    """How many borders a length is beyond: lengths of one number may be read together.

    >>> [side_of(length, (24, 40)) for length in (24, 25, 41)]
    [0, 1, 2]
    """
    return sum(length > border for border in borders)


def rows_apart(lengths_B: Tensor, borders: tuple[int, ...]) -> list[list[int]]:
    """Rows of a batch by side, each in order; all of them in one list where no border lies between.

    >>> import torch
    >>> rows_apart(torch.tensor([30, 3, 24]), (24,))
    [[1, 2], [0]]
    """
    sides: dict[int, list[int]] = {}
    for row, length in enumerate(lengths_B.tolist()):
        sides.setdefault(side_of(length, borders), []).append(row)
    return [sides[side] for side in sorted(sides)]
