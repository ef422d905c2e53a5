"""Which batch-normalisation layers may look at a batch and learn its statistics.

In train mode such a layer normalises by the batch and moves its running statistics towards it. A forget batch must do
neither: its images would enter the statistics of the model that is to forget them. Nor may a batch of one image, which
has no spread, or only that within it. A layer whose own weights are
frozen must not, or a run that may move only an adapter would move the statistics beside it. All these are run with
their running statistics, as in eval mode; gradients flow all the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


@contextmanager
def statistics_kept(model: nn.Module, *, everywhere: bool) -> Iterator[None]:
    """Layers of batch normalisation use and keep their running statistics in the block.

    Args:
        model: in any mode; every layer's mode is as before afterwards.
        everywhere: all such layers; else only those that have weights and may move none of them.
    """
    layers = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.training and (everywhere or _is_frozen(m))]
    for layer in layers:
        layer.training = False
    try:
        yield
    finally:
        for layer in layers:
            layer.training = True


def _is_frozen(layer: nn.Module) -> bool:
    own = list(layer.parameters(recurse=False))
    return bool(own) and not any(parameter.requires_grad for parameter in own)


def statistics_fresh(model: nn.Module) -> bool:
    """Has a layer that learns statistics never seen a batch?"""
    counts = [m.num_batches_tracked for m in model.modules() if isinstance(m, _BatchNorm)]
    return any(count is not None and not int(count) for count in counts)
