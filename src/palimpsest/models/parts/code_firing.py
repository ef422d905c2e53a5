"""Which codes fire in which rows: for the index of topics, and for finding the codes of one.

A code fires in a row where it is among the codes nearest to what the block says at some token of the row, prompt or
label; padding does not count.

Shape legend: N rows, B of them in a batch, T tokens, K codes, S nearest ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from palimpsest.errors import ModelError
from palimpsest.models.modes import asked
from palimpsest.models.parts import off
from palimpsest.models.parts.codebook import Codebook, codebooks_of
from palimpsest.models.rows_said import RowsSaid, said_of_rows


def the_codebook(model: Any, at: str = "") -> Codebook:
    """The codebook of a model.

    Args:
        model: bears its parts.
        at: place of the one that is meant; "" where there is only one.

    Raises:
        ModelError: there is none, none at that place, or several and none was named.
    """
    found = codebooks_of(model)
    if not found:
        raise ModelError(
            "the model has no codebook, so no code of it can be deleted; accepted: a version that learned with "
            "palimpsest learn --method code_learn"
        )
    places = [part.config.at for part in found]
    if at and at not in places:
        raise ModelError(f"the model has no codebook at {at!r}; accepted: {', '.join(places)}")
    if not at and len(found) > 1:
        raise ModelError(f"the model has {len(found)} codebooks; name one with the option at: {', '.join(places)}")
    return found[places.index(at)] if at else found[0]


def said_in_front(model: Any, part: Codebook, examples: Any, batch_size: int = 32) -> Iterator[RowsSaid]:
    """Batch by batch what a block says before the codebook behind it: ids, (B, T, D), and which are tokens, (B, T)."""
    with asked(model), off(model, [part]):
        yield from said_of_rows(model, module_name(model, part), examples, examples.plain().ids, batch_size)


def module_name(model: nn.Module, part: Codebook) -> str:
    """Name of a part's place in a model, which may be wrapped."""
    place = part.config.at
    names = (name for name, _ in model.named_modules() if name == place or name.endswith(f".{place}"))
    return str(next(names))


def fired(model: Any, part: Codebook, examples: Any, nearest: int = 0, batch_size: int = 32) -> Bool[Tensor, "N K"]:
    """Which codes fire in which rows, on the CPU.

    Args:
        model: bears the part.
        part: whose codes.
        examples: N rows.
        nearest: S', how many codes of each token count; 0 = those that are chosen. Never more than there are.
        batch_size: rows of a pass.
    """
    count = min(nearest or part.config.chosen, part.config.codes)
    rows: dict[str, Tensor] = {}
    for ids, said, is_token in said_in_front(model, part, examples, batch_size):
        for row, example_id in enumerate(ids):
            here = torch.zeros(part.config.codes, dtype=torch.bool)
            here[part.nearest(said[row][is_token[row]], count).flatten().cpu()] = True
            rows[example_id] = here
    return torch.stack([rows[i] for i in examples.ids])
