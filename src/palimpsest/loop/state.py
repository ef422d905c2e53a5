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

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        streams = {name: stream.to_json() for name, stream in self.sides.items()}
        return {**vars(self), "anchor": self.anchor.to_json(), "sides": streams}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> State:
        """Inverse of ``to_json``."""
        return cls(
            **{
                **value,
                "anchor": _stream(value["anchor"]),
                "sides": {name: _stream(stream) for name, stream in value["sides"].items()},
            }
        )


def _stream(value: Mapping[str, Any]) -> IdStream:
    return IdStream(**{**value, "ids": tuple(value["ids"])})
