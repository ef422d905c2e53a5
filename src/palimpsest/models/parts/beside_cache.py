"""What a part remembers of a text while it grows, kept as one more layer in the model's own cache.

There it is moved, cut, copied and picked with the keys and values whenever the cache is: by beam search, by prefixes
that are used again, by our own decoding. A layer holds for every position what the part needs to go on after it.

Shape legend: B rows, T positions, F numbers of a part.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers.cache_utils import DynamicLayer

from palimpsest.errors import ModelError


def given_to(model: nn.Module, arguments: Sequence[Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """What a model is called with, by name."""
    given = dict(inspect.signature(model.forward).bind_partial(*arguments, **options).arguments)
    more = given.pop("kwargs", {})
    return {**given, **more}


def last_of(cache: Any, place: int, who: str) -> Float[Tensor, "B F"] | None:
    """What was kept at the last position; None before the first.

    Args:
        cache: of the model, or None.
        place: number of the part's layer in it.
        who: asks, for the error.

    Raises:
        ModelError: the cache has positions that the part did not see.
    """
    seen = 0 if cache is None else int(cache.get_seq_length())
    if not seen:
        return None
    layers = getattr(cache, "layers", ())
    if len(layers) <= place or not layers[place].is_initialized or layers[place].get_seq_length() != seen:
        raise ModelError(
            f"{who} did not see the first {seen} positions of this cache, or it is of a kind that cannot grow by a "
            "layer; accepted: a cache that began with the part on, as generate makes it, or use_cache = False"
        )
    return kept_in(layers[place])[:, 0, -1]


def keep(cache: Any, place: int, values_BTF: Float[Tensor, "B T F"]) -> None:
    """Append what belongs to the positions of a pass; nothing where there is no cache."""
    if cache is None or not hasattr(cache, "layers"):
        return
    while len(cache.layers) <= place:
        cache.layers.append(DynamicLayer())
    rows = values_BTF[:, None]
    cache.layers[place].update(rows, torch.zeros_like(rows[..., :1]))


def kept_in(layer: Any) -> Float[Tensor, "B 1 T F"]:
    """What a layer holds; also one whose rows our own decoding grows in a buffer."""
    grows = hasattr(layer, "key_buffer")
    found: Tensor = layer.key_buffer[: layer.rows, :, : layer.length] if grows else layer.keys
    return found
