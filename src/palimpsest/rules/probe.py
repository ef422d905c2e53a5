"""Measure ρ inside a run: does the repair answer the fast step, or is the scheme a joint step in disguise?

    ρ = η ‖∇L_R(θ^f) − ∇L_R(θ_k)‖ / ‖θ^f − θ_k‖          both gradients on one batch

Source: derivation in ``rules/fast_slow.py``. The displacement is measured, so it holds for any optimizer of the fast
step; η is the learning rate, so for an adaptive optimizer of the repair ρ is that of plain gradient steps.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from palimpsest.models.scope import trainable
from palimpsest.rules.fast_slow import Snapshot, gradients, rho


class Probe:
    """One measurement at a time: ``open`` at θ_k, ``fast`` around each fast step, ``close`` at θ^f, then ``read``."""

    def __init__(self) -> None:
        self._before: Snapshot | None = None
        self._after: Snapshot | None = None
        self._moved: Snapshot = {}

    def open(self, model: nn.Module) -> None:
        """Keep the gradient of the repair loss at θ_k."""
        self._before = gradients(model)

    @contextmanager
    def fast(self, model: nn.Module) -> Iterator[None]:
        """Keep how far the weights move in the block; nothing unless the probe is open."""
        if self._before is None:
            yield
            return
        start = {name: p.detach().clone() for name, p in trainable(model).items()}
        yield
        for name, parameter in trainable(model).items():
            self._moved[name] = self._moved.get(name, 0.0) + parameter.detach() - start[name]

    def close(self, model: nn.Module) -> None:
        """Keep the gradient at θ^f; nothing unless the probe is open."""
        if self._before is not None and self._after is None:
            self._after = gradients(model)

    def read(self, learning_rate: float) -> float | None:
        """ρ, and the probe is empty again; None when nothing was probed or nothing moved."""
        before, after, moved = self._before, self._after, self._moved
        self._before, self._after, self._moved = None, None, {}
        return rho(before, after, moved, eta=learning_rate, beta=1.0) if before and after and moved else None
