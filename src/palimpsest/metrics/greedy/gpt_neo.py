"""GPT-Neo's attention through torch's fused kernel, while we measure in fp32.

GPT-Neo has only a step-by-step attention in transformers: scores, window, mask, softmax and sum each go through memory,
and decoding many rows is bound by memory. The fused kernel computes the same (no 1/sqrt(d) scaling, as in GPT-Neo) in
one pass. It relies on what our batches guarantee: padding only on the right, and rows of one length when decoding.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.models.gpt_neo.modeling_gpt_neo import GPTNeoSelfAttention


@contextmanager
def fused_attention(model: nn.Module) -> Iterator[bool]:
    """Inside, attention modules of a GPT-Neo in fp32 use the fused kernel; yields whether there are any.

    Args:
        model: any model in eval mode, adapters allowed; others than GPT-Neo stay as they are.
    """
    modules = [module for module in model.modules() if type(module) is GPTNeoSelfAttention]
    if any(parameter.dtype != torch.float32 for module in modules for parameter in module.parameters()):
        modules = []
    for module in modules:
        module._attn = partial(_attend, module)
    try:
        yield bool(modules)
    finally:
        for module in modules:
            del module._attn


def _attend(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None = None
) -> tuple[Tensor, Tensor | None]:
    """Attention over all earlier positions, or the last ``window_size`` of them in a local layer."""
    queries, length = query.shape[-2], key.shape[-2]
    window = module.config.window_size if module.attention_type == "local" else length
    if queries == 1:
        recent = slice(max(0, length - window), None)
        return F.scaled_dot_product_attention(query, key[:, :, recent], value[:, :, recent], scale=1.0), None
    if queries < length or window < length:
        weighted: tuple[Tensor, Tensor] = GPTNeoSelfAttention._attn(module, query, key, value, attention_mask)
        return weighted
    return F.scaled_dot_product_attention(query, key, value, is_causal=True, scale=1.0), None
