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
from palimpsest.models.activations import outputs_seen
from palimpsest.models.modes import asked
from palimpsest.models.parts import off
from palimpsest.models.parts.codebook import Codebook, codebooks_of


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


Said = tuple[tuple[str, ...], Tensor, Tensor]


def said_in_front(model: Any, part: Codebook, examples: Any, batch_size: int = 32) -> Iterator[Said]:
    """Batch by batch what a block says before the codebook behind it: ids, (B, T, D), and which are tokens, (B, T)."""
    device, place = next(model.parameters()).device, module_name(model, part)
    ids = examples.plain().ids
    with asked(model), off(model, [part]):
        for start in range(0, len(ids), batch_size):
            together = examples.plain().batch(ids[start : start + batch_size]).to(device)
            for _, batch in together.apart(model):
                with outputs_seen(model, (place,)) as seen:
                    model(**batch.inputs())
                said = seen[place][0]
                yield batch.ids, said, _tokens(batch, said)


def _tokens(batch: Any, said: Tensor) -> Bool[Tensor, "B T"]:
    mask = batch.inputs().get("attention_mask")
    return torch.ones(said.shape[:2], dtype=torch.bool, device=said.device) if mask is None else mask.bool()


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
