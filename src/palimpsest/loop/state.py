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
    stage: int = 0  # number of the stage that it is in,
    began: int = 0  # the step at which that began,
    began_epoch: int = 0  # and the epoch
    edited: bool = False  # has ``Method.edit`` been called?

    def stream(self, name: str) -> IdStream:
        """Of a set, the anchor's or another's."""
        return self.anchor if self.anchor.name == name else self.sides[name]

    def anchor_on(self, name: str) -> None:
        """Let another set be the anchor; every stream stays where it is."""
        if name != self.anchor.name:
            self.sides[self.anchor.name] = self.anchor
            self.anchor = self.sides.pop(name)

    def to_json(self, beginning: State) -> dict[str, Any]:
        """JSON values; of ids only those that a check narrowed.

        Args:
            beginning: the state of the same job before its first step, which holds all ids.
        """
        return {
            **vars(self),
            "anchored": self.anchor.name,
            "anchor": self.anchor.to_json(beginning.stream(self.anchor.name)),
            "sides": {name: stream.to_json(beginning.stream(name)) for name, stream in self.sides.items()},
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any], beginning: State) -> State:
        """Inverse of ``to_json``."""
        said = dict(value)
        sides = {name: beginning.stream(name).at(place) for name, place in said["sides"].items()}
        anchor = beginning.stream(said.pop("anchored", beginning.anchor.name)).at(said["anchor"])
        if {anchor.name, *sides} != {beginning.anchor.name, *beginning.sides}:
            raise KeyError(f"it draws from {', '.join(sorted({anchor.name, *sides}))}")
        return cls(**{**said, "anchor": anchor, "sides": sides})
