"""What goes forward through networks: the cost of a run that does not depend on the machine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn


@dataclass
class Passes:
    """Filled in while a block of ``passes_through`` runs.

    Attributes:
        tokens: positions that went forward: tokens without padding, or images.
    """

    tokens: int = 0


@contextmanager
def passes_through(*networks: nn.Module) -> Iterator[Passes]:
    """Count what goes forward through these networks in the block; one that is given twice counts once."""
    passes = Passes()

    def see(_module: nn.Module, _arguments: tuple[Any, ...], given: Mapping[str, Any]) -> None:
        passes.tokens += _positions(given)

    with ExitStack() as hooks:
        for network in {id(network): network for network in networks}.values():
            hooks.callback(network.register_forward_pre_hook(see, with_kwargs=True).remove)
        yield passes


def held_by(*holders: object) -> list[nn.Module]:
    """The networks that are attributes of these objects: teachers, side networks, frozen copies."""
    values = (value for holder in holders for value in getattr(holder, "__dict__", {}).values())
    return [value for value in values if isinstance(value, nn.Module)]


def _positions(given: Mapping[str, Any]) -> int:
    """Positions of one forward pass; with a cache the attention mask is longer than the input."""
    mask, ids, images = given.get("attention_mask"), given.get("input_ids"), given.get("pixel_values")
    answered = given.get("decoder_attention_mask")
    if isinstance(mask, Tensor) and isinstance(answered, Tensor):  # an encoder and a decoder
        return int(mask.sum() + answered.sum())
    if isinstance(mask, Tensor) and isinstance(ids, Tensor) and mask.shape == ids.shape:
        return int(mask.sum())
    if isinstance(ids, Tensor):
        return ids.numel()
    return len(images) if isinstance(images, Tensor) else 0
