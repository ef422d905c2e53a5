"""What work outside the loop costs: masks, pairs, references and levels, built before the first step."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from torch import nn

from palimpsest.engine.process_peak import peak_bytes
from palimpsest.models.passes import passes_through
from palimpsest.records import Cost


@dataclass
class Count:
    """Filled in while a block of ``counted`` runs.

    Attributes:
        seconds: wall clock of the block.
        tokens: positions that went forward through the model: tokens without padding, or images.
    """

    seconds: float = 0.0
    tokens: int = 0

    def and_also(self, other: Count) -> Count:
        """Both together."""
        return Count(self.seconds + other.seconds, self.tokens + other.tokens)

    def cost(self) -> Cost:
        """As a cost, with the highest memory so far."""
        return Cost(self.seconds, self.tokens, peak_bytes())


@contextmanager
def counted(model: nn.Module) -> Iterator[Count]:
    """Count what goes forward through a model in the block."""
    count = Count()
    started = time.perf_counter()
    with passes_through(model) as passes:
        try:
            yield count
        finally:
            count.tokens = passes.tokens
            count.seconds = time.perf_counter() - started
