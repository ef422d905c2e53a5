"""Rows that read the keys and values of their prefix from the teacher-forced pass instead of copying them.

Shape legend: R rows, B examples, G places for the rows of one example, H heads, K head width, P prefix positions,
L own positions (from ``base`` on), T tokens, V vocabulary, N rows that join.

At large numbers of rows, decoding is bound by the memory traffic of single-query attention. All rows of one example
attend to the same prefix, so that part becomes one matrix product per example, and only the positions a row generated
itself are read row by row. The model's own code runs; of each attention module only the product of query, keys and
values is replaced, and only while a step is computed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer
from transformers.models.gpt_neo.modeling_gpt_neo import GPTNeoSelfAttention

FEWEST_ROWS = 96  # below, grouping costs more than it saves


def can_share(model: nn.Module, cache: DynamicCache, num_rows: int) -> bool:
    """Is this a GPT-Neo in fp32 (adapters allowed) with enough rows to be worth it?"""
    attentions = sum(type(module) is GPTNeoSelfAttention for module in model.modules())
    return (
        num_rows >= FEWEST_ROWS
        and attentions == len(cache.layers)
        and all(layer.keys.dtype == torch.float32 for layer in cache.layers)
    )


class _Groups(NamedTuple):
    """Where the rows stand, example by example.

    Attributes:
        row_BG: row at each place; 0 at empty places, whose results nobody reads.
        example_R, place_R: the place of each row.
        end_R: length of the prefix of each row.
        longest: the longest of them.
    """

    row_BG: Int[Tensor, "B G"]
    example_R: Int[Tensor, "R"]
    place_R: Int[Tensor, "R"]
    end_R: Int[Tensor, "R"]
    longest: int


class OwnLayer(DynamicLayer):  # type: ignore[misc]  # transformers ships no types
    """Keys and values that the rows generated themselves, from position ``base`` on."""

    def __init__(self, source: DynamicLayer, num_rows: int, base: int) -> None:
        super().__init__()
        self.dtype, self.device, self.is_initialized = source.keys.dtype, source.keys.device, True
        self.source_keys, self.source_values = source.keys, source.values
        shape = (num_rows, source.keys.shape[1], source.keys.shape[2] - base, source.keys.shape[3])
        self.key_buffer, self.value_buffer = source.keys.new_zeros(shape), source.values.new_zeros(shape)
        self.base, self.rows, self.length = base, 0, 0

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Write one position and return the rows' own positions."""
        here = self.length - self.base
        self.key_buffer[: self.rows, :, here] = key_states[:, :, 0]
        self.value_buffer[: self.rows, :, here] = value_states[:, :, 0]
        return self.key_buffer[: self.rows, :, : here + 1], self.value_buffer[: self.rows, :, : here + 1]

    def get_seq_length(self) -> int:
        """Positions before the next one, prefix included."""
        return self.length


class SharedRows:
    """Rows of a GPT-Neo; chains must join in the order of their ends."""

    def __init__(self, model: nn.Module, cache: DynamicCache, capacity: int) -> None:
        self.model, self.cache, self.capacity = model, cache, capacity
        self.attentions = [module for module in model.modules() if type(module) is GPTNeoSelfAttention]
        self.layers: list[OwnLayer] = []
        device = cache.layers[0].keys.device
        self.example_R = torch.empty(0, dtype=torch.long, device=device)
        self.end_R = torch.empty(0, dtype=torch.long, device=device)
        self.groups: _Groups | None = None

    def join(self, source_N: Int[Tensor, "N"], length: int) -> None:
        """Nothing is copied; the first rows that join settle where own positions begin."""
        if not self.layers:
            self.layers = [OwnLayer(layer, self.capacity, length) for layer in self.cache.layers]
        self.example_R = torch.cat([self.example_R, source_N])
        self.end_R = torch.cat([self.end_R, torch.full_like(source_N, length)])
        self.groups = None

    def keep(self, kept_N: Int[Tensor, "N"], length: int) -> None:
        """Move only rows that do not stand in their place already."""
        place_N = torch.arange(kept_N.shape[0], device=kept_N.device)
        moved_N = kept_N != place_N
        source_N, place_N = kept_N[moved_N], place_N[moved_N]
        for layer in self.layers if source_N.shape[0] else ():
            stop = length - layer.base
            for buffer in (layer.key_buffer, layer.value_buffer):
                buffer[place_N, :, :stop] = buffer[source_N, :, :stop]
        self.example_R, self.end_R = self.example_R[kept_N], self.end_R[kept_N]
        self.groups = None

    def step(self, tokens_RT: Int[Tensor, "R T"]) -> Float[Tensor, "R V"]:
        """One position through the model."""
        if self.groups is None:
            self.groups = _group(self.example_R, self.end_R)
        position = tokens_RT.shape[1] - 1
        for layer in self.layers:
            layer.rows, layer.length = tokens_RT.shape[0], position
        unmasked = torch.zeros(
            1, 1, 1, 1, device=tokens_RT.device
        )  # four dimensions: the model builds no mask of its own
        with self._replaced(position):
            output: Any = self.model(
                input_ids=tokens_RT[:, -1:],
                attention_mask=unmasked,
                past_key_values=Cache(layers=self.layers),
                use_cache=True,
            )
        return output.logits[:, -1]  # type: ignore[no-any-return]

    @contextmanager
    def _replaced(self, position: int) -> Iterator[None]:
        assert self.groups is not None  # noqa: S101  # our own invariant
        masks: dict[int, Tensor] = {}
        for module in self.attentions:
            window = module.config.window_size if module.attention_type == "local" else position + 1
            if window not in masks:
                masks[window] = _mask(self.groups, self.layers[0].base, position, window)
            layer = self.layers[module.layer_id]
            module._attn = partial(_attend, groups=self.groups, layer=layer, mask_R1J=masks[window])
        try:
            yield
        finally:
            for module in self.attentions:
                del module._attn


def _group(example_R: Int[Tensor, "R"], end_R: Int[Tensor, "R"]) -> _Groups:
    """Rows of one example next to each other, examples padded to the most rows any of them has."""
    count_B = torch.bincount(example_R)
    order_R = example_R.argsort(stable=True)
    sorted_R = example_R[order_R]
    rank_R = torch.arange(len(order_R), device=order_R.device) - (count_B.cumsum(0) - count_B)[sorted_R]
    place_R = torch.empty_like(rank_R)
    place_R[order_R] = rank_R
    row_BG = torch.zeros(len(count_B), int(count_B.max()), dtype=torch.long, device=order_R.device)
    row_BG[sorted_R, rank_R] = order_R
    return _Groups(row_BG, example_R, place_R, end_R, int(end_R.max()))


def _mask(groups: _Groups, base: int, position: int, window: int) -> Float[Tensor, "R 1 J"]:
    """0 where a row may look, -inf elsewhere: J = P prefix positions, then L own ones."""
    end_R1 = groups.end_R[:, None]
    prefix_P = torch.arange(groups.longest, device=end_R1.device)
    own_L = torch.arange(base, position + 1, device=end_R1.device)
    hidden_RJ = torch.cat([prefix_P >= end_R1, own_L < end_R1], 1)
    hidden_RJ |= torch.cat([prefix_P, own_L]) <= position - window
    return torch.zeros(hidden_RJ.shape, device=end_R1.device).masked_fill_(hidden_RJ, -torch.inf)[:, None]


def _attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None = None,
    *,
    groups: _Groups,
    layer: OwnLayer,
    mask_R1J: Float[Tensor, "R 1 J"],
) -> tuple[Tensor, None]:
    """Attention of one query per row over its example's prefix and its own positions, without scaling as in GPT-Neo.

    Args:
        query: (R, H, 1, K).
        key, value: own positions, (R, H, L, K).
        attention_mask: ignored.
        groups: where the rows stand.
        layer: holds the prefixes.
        mask_R1J: added to the scores.

    Returns:
        (R, H, 1, K) and no weights.
    """
    longest, (num_examples, places) = groups.longest, groups.row_BG.shape
    prefix_key_BHPK = layer.source_keys[:num_examples, :, :longest]
    prefix_value_BHPK = layer.source_values[:num_examples, :, :longest]
    rows = groups.row_BG.flatten()
    query_BHGK = query[:, :, 0].index_select(0, rows).unflatten(0, (num_examples, places)).transpose(1, 2)
    score_BHGP = query_BHGK @ prefix_key_BHPK.transpose(-1, -2)
    prefix_RHP = score_BHGP[groups.example_R, :, groups.place_R]
    own_RHL = (query @ key.transpose(-1, -2))[:, :, 0]
    weight_RHJ = torch.cat([prefix_RHP, own_RHL], -1).add_(mask_R1J).softmax(-1)
    weight_BHGP = weight_RHJ[..., :longest].index_select(0, rows).unflatten(0, (num_examples, places)).transpose(1, 2)
    from_prefix_RHK = (weight_BHGP @ prefix_value_BHPK)[groups.example_R, :, groups.place_R]
    own_weight_RH1L = weight_RHJ[..., longest:].unsqueeze(2)
    return from_prefix_RHK.unsqueeze(2) + own_weight_RH1L @ value, None
