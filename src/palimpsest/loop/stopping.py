"""When a run ends and which examples still need work. The caller composes a stopping from metrics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from torch import nn


@dataclass(frozen=True)
class Check:
    """What a stopping found.

    Attributes:
        active: ids of the anchor set that still need work; the others leave the batches and may come back later.
        scores: what was measured, for the log and the curves.
        stop: why the run must end now although it is not satisfied, or None.
        satisfied: why it may end although some are still active, or None. Without active ones the loop ends by itself.
    """

    active: tuple[str, ...]
    scores: Mapping[str, float] = field(default_factory=dict)
    stop: str | None = None
    satisfied: str | None = None


class Stopping(Protocol):
    """Looks at the model between epochs. Must not change weights or global random state."""

    def check(self, model: nn.Module, step: int) -> Check:
        """Test the model after ``step`` steps; step 0 is before the first one."""
