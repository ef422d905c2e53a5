"""Texts that grow by one token a step, all of one length, with their keys and values.

Shape legend: R rows, H key-value heads, T tokens, K head width, V vocabulary, N rows that join or move.

Because chains join when the decoding reaches their position, all rows always have the same length: nothing is padded,
no mask is needed, and positions, local windows and rotary phases are what a single text would have.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer

from palimpsest.metrics.greedy.choice import forward_last
from palimpsest.metrics.greedy.fused import FusedKernels


class GrowingRows(Protocol):
    """Rows that are being decoded."""

    def join(self, source_N: Int[Tensor, "N"], length: int) -> None:
        """Append rows that begin with the first ``length`` tokens of these texts."""

    def keep(self, kept_N: Int[Tensor, "N"], length: int) -> None:
        """Go on with these rows only, in this order; all have ``length`` tokens in the cache."""

    def step(self, tokens_RT: Int[Tensor, "R T"]) -> Float[Tensor, "R V"]:
        """Logits after the tokens of each row; all but the last token of them were seen before."""


class RowLayer(DynamicLayer):  # type: ignore[misc]  # transformers ships no types
    """Keys and values of one layer in a buffer allocated once; growing by concatenation would copy it every step."""

    def __init__(self, source: DynamicLayer, capacity: int) -> None:
        super().__init__()
        self.source_keys, self.source_values = source.keys, source.values
        self.dtype, self.device, self.is_initialized = source.keys.dtype, source.keys.device, True
        self.key_buffer = source.keys.new_empty((capacity, *source.keys.shape[1:]))
        self.value_buffer = source.values.new_empty((capacity, *source.values.shape[1:]))
        self.rows = self.length = 0

    def buffers(self) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """(buffer, source) of keys and of values."""
        return (self.key_buffer, self.source_keys), (self.value_buffer, self.source_values)

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Write one position and return everything up to it."""
        self.key_buffer[: self.rows, :, self.length : self.length + 1] = key_states
        self.value_buffer[: self.rows, :, self.length : self.length + 1] = value_states
        stop = self.length + 1
        return self.key_buffer[: self.rows, :, :stop], self.value_buffer[: self.rows, :, :stop]

    def get_seq_length(self) -> int:
        """Positions already in the cache."""
        return self.length


class CachedRows:
    """Rows whose keys and values start as those of the teacher-forced pass."""

    def __init__(self, model: nn.Module, cache: DynamicCache, capacity: int) -> None:
        self.model = model
        self.layers = [RowLayer(layer, capacity) for layer in cache.layers]
        self.kernels = FusedKernels(model)
        self.rows = 0

    def join(self, source_N: Int[Tensor, "N"], length: int) -> None:
        """Copy the first ``length`` positions of the teacher-forced keys and values."""
        stop = self.rows + source_N.shape[0]
        for layer in self.layers:
            for buffer, source in layer.buffers():
                buffer[self.rows : stop, :, :length] = source[source_N, :, :length]
        self.rows = stop

    def keep(self, kept_N: Int[Tensor, "N"], length: int) -> None:
        """Move only rows that do not stand in their place already."""
        place_N = torch.arange(kept_N.shape[0], device=kept_N.device)
        moved_N = kept_N != place_N
        source_N, place_N = kept_N[moved_N], place_N[moved_N]
        self.rows = kept_N.shape[0]
        if not source_N.shape[0]:
            return
        for layer in self.layers:
            for buffer, _ in layer.buffers():
                buffer[place_N, :, :length] = buffer[source_N, :, :length]

    def step(self, tokens_RT: Int[Tensor, "R T"]) -> Float[Tensor, "R V"]:
        """One position through the model."""
        for layer in self.layers:
            layer.rows, layer.length = self.rows, tokens_RT.shape[1] - 1
        cache = Cache(layers=self.layers)
        with self.kernels:
            output: Any = self.model(input_ids=tokens_RT[:, -1:], past_key_values=cache, use_cache=True)
        return output.logits[:, -1]  # type: ignore[no-any-return]


class RecomputedRows:
    """Rows of a model whose cache cannot be shared: every step is a full forward pass. Exact and slow."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def join(self, source_N: Int[Tensor, "N"], length: int) -> None:
        """Nothing to keep."""

    def keep(self, kept_N: Int[Tensor, "N"], length: int) -> None:
        """Nothing to move."""

    def step(self, tokens_RT: Int[Tensor, "R T"]) -> Float[Tensor, "R V"]:
        """All positions through the model."""
        return forward_last(self.model, tokens_RT)[:, -1]


def shareable(cache: DynamicCache, tokens_BT: Int[Tensor, "B T"]) -> bool:
    """Does this cache of a teacher-forced pass hold plain keys and values of every position in every layer?"""
    size = (tokens_BT.shape[0], tokens_BT.shape[1])
    return len(cache.layers) > 0 and all(
        type(layer) is DynamicLayer
        and layer.is_initialized
        and layer.keys.dim() == layer.values.dim() == 4
        and (layer.keys.shape[0], layer.keys.shape[2]) == size
        and (layer.values.shape[0], layer.values.shape[2]) == size
        for layer in cache.layers
    )


def bytes_per_row(cache: DynamicCache) -> int:
    """Memory that the keys and values of one row take."""
    return sum(
        (states[0].numel()) * states.element_size() for layer in cache.layers for states in (layer.keys, layer.values)
    )
