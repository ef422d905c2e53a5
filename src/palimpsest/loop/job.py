"""What the loop is given, and how it says a run ended."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from palimpsest.contract import ExampleSet, Method, Reference
from palimpsest.loop.arranged import Arranged
from palimpsest.loop.stop import Stop
from palimpsest.loop.stopping import Stopping
from palimpsest.loop.training import Training
from palimpsest.rules.rule_stack import RuleStack


@dataclass(frozen=True)
class Repair:
    """What repair draws from; ``loop/repair.py`` takes its steps.

    Attributes:
        sets: "retain", "replay" or both; without any there is no repair.
        reference: the model before the run; None without sets.
        rows: examples of one step.
        silent: outputs that what stays never has: the repair teaches that they are never said.
        steps: after each iteration of a run at fixed rates; a controlled run chooses for itself.
    """

    sets: Mapping[str, ExampleSet]
    reference: Reference | None
    rows: int = 20
    silent: tuple[int, ...] = ()
    steps: int = 0


@dataclass(frozen=True)
class Job:
    """Everything a run needs.

    Attributes:
        method: prepared; its sets are in ``sets``.
        model: on its device, scope applied.
        sets: set name -> examples.
        pairs: paired set -> {anchor id: its partner's id in that set}.
        training: optimizer, length, budgets.
        folder: where ``checkpoint.safetensors`` and ``metrics.jsonl`` live.
        stopping: refinement, or None.
        progress: called with (step, planned steps, what the last step did, and "stage" where there are several).
        trackers: names for Accelerate: "tensorboard", "trackio", "wandb".
        repair: what keeps the rest, or None.
        stop: heeded at every safe point.
        rules: of the method and of the run, prepared; None = those of the method, which the loop prepares.
        arranged: set -> the order that its examples are gone over in; a set without one is shuffled.
        at_start: digest of every saved tensor before the method touched the model; what a run changed is seen by it.
    """

    method: Method
    model: Any
    sets: Mapping[str, ExampleSet]
    training: Training
    folder: Path
    pairs: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    stopping: Stopping | None = None
    progress: Callable[[int, int, Mapping[str, Any]], None] | None = None
    trackers: Sequence[str] = ()
    repair: Repair | None = None
    rules: RuleStack | None = None
    arranged: Mapping[str, Arranged] = field(default_factory=dict)
    at_start: Mapping[str, str] = field(default_factory=dict)
    stop: Stop = field(default_factory=Stop)


@dataclass(frozen=True)
class Ended:
    """How a run ended.

    Attributes:
        stopped: why, in words.
        budget: the budget that ended it before the stopping was satisfied, or None.
        steps: optimizer iterations.
        seconds: wall clock of the loop over all resumes, checks included.
        check_seconds: the part of it that the stopping took.
        tokens: positions that went forward in training.
        short: why a controlled run ended before the forget set was at its level, or None.
        unchanged: why the weights are those from before the run, where that is no fault; None = they must have moved.
        method: the one that a second start built anew; None = that of the job.
        parts: of a controlled run, kind of work -> its seconds and positions.
    """

    stopped: str
    budget: str | None
    steps: int
    seconds: float
    check_seconds: float
    tokens: int
    short: str | None = None
    unchanged: str | None = None
    method: Method | None = None
    parts: Mapping[str, tuple[float, int]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """JSON values, without the method."""
        return {name: value for name, value in vars(self).items() if name != "method"}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Ended:
        """Inverse of ``to_json``."""
        return cls(
            **{**value, "parts": {name: (seconds, tokens) for name, (seconds, tokens) in value["parts"].items()}}
        )
