"""Where a run stands: with weights, optimizer and random state, all that a checkpoint needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from palimpsest.loop.sampler import IdStream


@dataclass
class State:
    """Where a run stands; with the weights, all that a checkpoint needs."""

    anchor: IdStream
    sides: dict[str, IdStream]
    step: int = 0
    epoch: int = 0
    tokens: int = 0
    seconds: float = 0.0
    check_seconds: float = 0.0
    log_rows: int = 0
    stopped: str | None = None
    budget: str | None = None
    unchanged: str | None = None

    def to_json(self, beginning: State) -> dict[str, Any]:
        """JSON values; of ids only those that a check narrowed.

        Args:
            beginning: the state of the same job before its first step, which holds all ids.
        """
        return {
            **vars(self),
            "anchor": self.anchor.to_json(beginning.anchor),
            "sides": {name: stream.to_json(beginning.sides[name]) for name, stream in self.sides.items()},
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any], beginning: State) -> State:
        """Inverse of ``to_json``."""
        sides = {name: beginning.sides[name].at(place) for name, place in value["sides"].items()}
        return cls(**{**value, "anchor": beginning.anchor.at(value["anchor"]), "sides": sides})
