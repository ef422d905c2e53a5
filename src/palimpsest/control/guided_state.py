"""Where a controlled run stands between two stages. Written whole, in one move, after each; a kill loses one stage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Next = Literal["sweep", "round", "cool", "restart", "last", "ended"]


@dataclass
class ControlState:
    """Decisions and numbers of a run so far.

    Attributes:
        stage: what comes next.
        stages: stages begun; seeds the randomness of each.
        rate, first_rate, ceiling: learning rate now, as found by the sweep, and the highest allowed.
        repairs: repair steps per iteration.
        spare: did the last accepted round leave most of the floors unused?
        rebound: MA below the level that a round must reach, because cooling brings some back.
        replay_share: of a repair step.
        active: forget rows in play.
        way, ways, nats: w now; w and nats after each accepted round since the method started.
        ma_reached: mean MA before the last cooling.
        loss, learned, idle: of a learning run: the best loss that must fall, the last of the learned rows, and rounds
            without a gain; None before the first round.
        refused: rounds taken back in a row; rounds: all rounds; overshoots, starts: how often.
        iterations, repair_steps: taken in all, those that were taken back included.
        here, earlier, best, start, anchor: numbers of snapshots: accepted last, accepted before that, best cooled one,
            before the run, where the method last started anew. -1 = none.
        best_way: w of the best cooled snapshot.
        second, second_way: the best cooled one that broke no floor but that of the model's own words, and its w.
        reason, reached: why the run ended, and whether at its level.
        budget: the budget that ended it, or None.
        step_seconds, reading_seconds, snapshot_seconds: where the time went.
        reading_tokens, sweep_tokens: scored positions read; positions of the sweep's steps.
        loop: of the machine, as JSON.
    """

    stage: Next = "sweep"
    stages: int = 0
    rate: float = 0.0
    first_rate: float = 0.0
    ceiling: float = 0.0
    repairs: int = 0
    spare: bool = False
    rebound: float = 0.03
    replay_share: float = 0.25
    active: list[str] = field(default_factory=list)
    way: float = 1.0
    ways: list[float] = field(default_factory=list)
    nats: list[float] = field(default_factory=list)
    ma_reached: float = 1.0
    loss: float | None = None
    learned: float = 0.0
    idle: int = 0
    refused: int = 0
    rounds: int = 0
    overshoots: int = 0
    starts: int = 0
    iterations: int = 0
    repair_steps: int = 0
    here: int = -1
    earlier: int = -1
    best: int = -1
    start: int = -1
    anchor: int = -1
    best_way: float = 1.0
    second: int = -1
    second_way: float = 1.0
    reason: str | None = None
    reached: bool = False
    budget: str | None = None
    step_seconds: float = 0.0
    reading_seconds: float = 0.0
    snapshot_seconds: float = 0.0
    reading_tokens: int = 0
    sweep_tokens: int = 0
    loop: dict[str, Any] = field(default_factory=dict)

    @property
    def taken(self) -> int:
        """Iterations and repair steps in all."""
        return self.iterations + self.repair_steps

    @property
    def snapshots(self) -> set[int]:
        """Numbers of the snapshots that are still needed."""
        return {self.here, self.earlier, self.best, self.second, self.start, self.anchor} - {-1}

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ControlState:
        """Inverse of ``to_json``."""
        return cls(**value)
