"""Functions of logits that keep nothing but the logits for the backward pass.

The logits of a batch are the largest tensor of a step: with 50,000 words, 1600 positions take 320 MB. A loss written
plainly keeps one more tensor of that size for each log-softmax, and two for a divergence. Here a function is computed
a few rows at a time and computed again, by the same operations, when its gradient is wanted: the bits are the same,
the memory is that of the few rows.

Shape legend: S scored positions, R a few of them, V vocabulary (or classes).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

NUMBERS_AT_ONCE = 2**20  # 4 MB in fp32, of which a function holds a handful

Rowwise = Callable[[Tensor, Tensor], Tensor]


def by_rows(function: Rowwise, logits_SV: Tensor, other: Tensor) -> Tensor:
    """``function(logits_SV, other)``, (S,), with memory for a few rows.

    Args:
        function: treats each row by itself: (R, V) logits and the same rows of ``other`` -> (R,).
        logits_SV: gets a gradient if it wants one; once, a gradient of the gradient is refused.
        other: S rows of anything; gets no gradient.
    """
    if logits_SV.numel() <= NUMBERS_AT_ONCE:
        return function(logits_SV, other)
    value_S: Tensor = _ByRows.apply(function, logits_SV, other)  # type: ignore[no-untyped-call]
    return value_S


class _ByRows(torch.autograd.Function):
    """The function forward, the function and its gradient again backward, a few rows at a time."""

    @staticmethod
    def forward(ctx: Any, function: Rowwise, logits_SV: Tensor, other: Tensor) -> Tensor:
        ctx.save_for_backward(logits_SV, other)
        ctx.function = function
        size = _rows_at_once(logits_SV)
        parts = zip(torch.split(logits_SV, size), torch.split(other, size), strict=True)
        return torch.cat([function(*part) for part in parts])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient_S: Tensor) -> tuple[None, Tensor, None]:
        logits_SV, other = ctx.saved_tensors
        found_SV = torch.empty_like(logits_SV)
        size = _rows_at_once(logits_SV)
        parts = (torch.split(tensor, size) for tensor in (logits_SV, other, gradient_S, found_SV))
        for logits_RV, other_R, gradient_R, found_RV in zip(*parts, strict=True):
            with torch.enable_grad():
                input_RV = logits_RV.detach().requires_grad_()
                value_R = ctx.function(input_RV, other_R)
            found_RV.copy_(torch.autograd.grad(value_R, input_RV, gradient_R)[0])
        return None, found_SV, None


def _rows_at_once(logits_SV: Tensor) -> int:
    return max(1, NUMBERS_AT_ONCE // logits_SV.shape[1])
