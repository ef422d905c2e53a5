"""What a client tells in the place of its change; importing this needs no Flower."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, full_like

LIES: dict[str, Callable[[Tensor], Tensor]] = {
    "loud": lambda delta: 30.0 * delta,
    "flipped": lambda delta: -delta,
    "nan": lambda delta: full_like(delta, float("nan")),
}
