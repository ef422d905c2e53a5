"""Caches of keys and values: made from what a model's config says its layers keep, or not at all."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
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


class Continuing:
    """A model that is asked for one token after the other; it reads again only what it could not keep."""

    def __init__(self, model: Any) -> None:
        """It was told nothing yet.

        Args:
            model: a language model, as it is asked.
        """
        self._model, self._keeps = model, whole_cache(model) is not None
        self._past: Any = None

    def next_logits(self, ids_BT: Int[Tensor, "B T"]) -> Float[Tensor, "B V"]:
        """What it says next, fp32 on the CPU.

        Args:
            ids_BT: whole texts, those of the last call with one token more; without padding.
        """
        device = next(self._model.parameters()).device
        given_BT = ids_BT if self._past is None else ids_BT[:, -1:]
        how = {"attention_mask": torch.ones_like(ids_BT).to(device), "use_cache": self._keeps}
        said = self._model(input_ids=given_BT.to(device), past_key_values=self._past, **how)
        self._past = getattr(said, "past_key_values", None) if self._keeps else None
        logits_BV: Tensor = said.logits[:, -1].float().cpu()
        return logits_BV
