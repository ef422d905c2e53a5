"""The small residual nets there are (``resnet.py``), for who only asks whether a name is one of them."""

from __future__ import annotations

from types import MappingProxyType

_SHAPES = {
    "resnet20": ((16, 32, 64), (3, 3, 3), "pad"),
    "resnet32": ((16, 32, 64), (5, 5, 5), "pad"),
    "resnet56": ((16, 32, 64), (9, 9, 9), "pad"),
    "resnet18": ((64, 128, 256, 512), (2, 2, 2, 2), "projection"),
}
ARCHITECTURES = MappingProxyType(_SHAPES)
"""Name -> channels of each stage, blocks of each stage, shortcut."""
