"""Fused kernels for operations that transformers computes step by step, while we measure in fp32.

Decoding many rows is bound by memory, and two operations go through memory several times: GPT-Neo's attention (scores,
window, mask, softmax, sum; transformers has no fused version of it) and the tanh form of GELU (eight passes). The
kernels here compute the same formulas in one pass; results differ by rounding, as they do between batch sizes. The
attention relies on what our batches guarantee: padding only on the right, and rows of one length when decoding.
"""

from __future__ import annotations

from functools import partial
from types import TracebackType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.activations import NewGELUActivation
from transformers.models.gpt_neo.modeling_gpt_neo import GPTNeoSelfAttention


class FusedKernels:
    """Context manager: inside, these operations of an fp32 model use fused kernels; other models stay as they are."""

    def __init__(self, model: nn.Module) -> None:
        """Find the operations.

        Args:
            model: any model in eval mode, adapters allowed. Its modules are unchanged outside the context.
        """
        full = all(p.dtype == torch.float32 for p in model.parameters() if p.is_floating_point())
        modules = list(model.modules()) if full else []
        self._attentions: list[Any] = [module for module in modules if type(module) is GPTNeoSelfAttention]
        self._activations: list[Any] = [module for module in modules if type(module) is NewGELUActivation]

    def __enter__(self) -> None:
        for attention in self._attentions:
            attention._attn = partial(_attend, attention)
        for activation in self._activations:
            activation.forward = partial(F.gelu, approximate="tanh")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for attention in self._attentions:
            del attention._attn
        for activation in self._activations:
            del activation.forward


def _attend(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None = None
) -> tuple[Tensor, Tensor | None]:
    """Attention over all earlier positions, or the last ``window_size`` of them in a local layer; no 1/sqrt(d)."""
    queries, length = query.shape[-2], key.shape[-2]
    window = module.config.window_size if module.attention_type == "local" else length
    if queries == 1:
        recent = slice(max(0, length - window), None)
        return F.scaled_dot_product_attention(query, key[:, :, recent], value[:, :, recent], scale=1.0), None
    if queries < length or window < length:
        weighted: tuple[Tensor, Tensor] = GPTNeoSelfAttention._attn(module, query, key, value, attention_mask)
        return weighted
    return F.scaled_dot_product_attention(query, key, value, is_causal=True, scale=1.0), None
