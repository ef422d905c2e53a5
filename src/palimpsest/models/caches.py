"""Caches of keys and values: made from what a model's config says its layers keep, or not at all."""

from __future__ import annotations

from typing import Any

from torch import nn
from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

from palimpsest.data.encode.borders import borders_of
from palimpsest.models.text_config import text_config

_KEYS_AND_VALUES = (DynamicLayer, DynamicSlidingWindowLayer)


def whole_cache(model: nn.Module) -> DynamicCache | None:
    """An empty cache that keeps every position of every layer; None where that would not be what the model keeps.

    None where a layer keeps something else (a convolution, a state, an index, another layer's keys), where nothing says
    what the layers keep, and where keys depend on the length of the text that they were computed for.
    """
    if borders_of(model) or not _keeps_keys_and_values(text_config(model)):
        return None
    # Without a config it keeps every position, also for layers with a sliding window; masks know the window.
    return DynamicCache()


def _keeps_keys_and_values(config: Any) -> bool:
    try:
        layers = DynamicCache(config=config).layers
    except (AttributeError, KeyError, TypeError, ValueError, NotImplementedError):  # a kind that transformers can't say
        return False
    return all(type(layer) in _KEYS_AND_VALUES for layer in layers)
