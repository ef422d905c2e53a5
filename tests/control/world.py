"""A world of two numbers in the place of a model: how much is forgotten, and how much of the floors that cost."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from palimpsest.control.goal import Used
from palimpsest.control.guided_state import ControlState
from palimpsest.control.readings import Reading, RowReading
from palimpsest.control.settings import Control
from palimpsest.errors import DivergedError

IDS = ("f0", "f1", "f2", "f3")


def reading(ma: float, ids: Sequence[str] = IDS, length: int = 50) -> Reading:
    """Rows that are all known to this share."""
    return Reading({i: RowReading(length * (1 - ma), length, ma, ma) for i in ids})


class World:
    """Stands for ``Hands``: what a run does, done to two numbers.

    Attributes:
        gain, harm, heal: what a unit of rate forgets and breaks, and what a repair step heals.
        diverges_at: iterations from this rate on are not finite.
        at: forgotten and broken, now.
        kept: snapshot -> both.
        done: what happened, in order.
    """

    def __init__(self, control: Control, *, gain: float = 1.0, harm: float = 0.0, heal: float = 0.0) -> None:
        self.gain, self.harm, self.heal, self.diverges_at = gain, harm, heal, 1e9
        self.at = (0.0, 0.0)
        self.kept: dict[int, tuple[float, float]] = {}
        self.done: list[Any] = []
        self.state = ControlState(repairs=control.repairs, first_rate=0.1, rate=0.1, ceiling=0.4)
        self.budget, self.cycle, self.turns, self.is_new = control.budget or 100, 1, 1, True
        self.tools = SimpleNamespace(control=control)
        self.repairer = SimpleNamespace(can=True)
        watched = {"retain": None}
        sets = {"forget": SimpleNamespace(ids=IDS), "learn": SimpleNamespace(ids=IDS)}
        self.probes = SimpleNamespace(sets=sets, watched=watched, ids=lambda name, turn: IDS, spoken=False)
        loop = SimpleNamespace(step=7, seconds=0.0, tokens=0)
        accelerator = SimpleNamespace(end_training=lambda: None)
        self.machine = SimpleNamespace(state=loop, anchor_name="forget", accelerator=accelerator, method=None)
        self.machine.legs = (SimpleNamespace(anchor="forget"),)
        self.parts: dict[str, tuple[float, int]] = {}

    def begin_stage(self) -> None:
        self.state.stages += 1

    def end_stage(self) -> None:
        for number in set(self.kept) - self.state.snapshots:
            del self.kept[number]  # going back to one of these must fail

    def spent(self) -> str | None:
        return f"{self.budget} steps" if self.state.taken >= self.budget else None

    def hold_back(self, steps: int) -> None:
        pass  # steps here are free

    def iterate(self, rate: float, *, trial: bool = False) -> None:
        if rate >= self.diverges_at:
            raise DivergedError("not finite")
        forgotten, broken = self.at
        self.at = (forgotten + self.gain * rate, broken + self.harm * rate)
        self.state.iterations += 1

    def mend(self, count: int, rate: float) -> None:
        self.at = (self.at[0], max(0.0, self.at[1] - count * self.heal))
        self.state.repair_steps += count

    def anneal(self, count: int, rate: float) -> None:
        self.mend(count, rate)

    def cool(self) -> Used:
        self.anneal(self.tools.control.cooling, 0.0)
        return self.floors(whole=True)

    def floors(self, *, whole: bool, steps: int = 3, moves: bool = True) -> Used:
        return Used(self.at[1], None)

    def read(self, name: str, ids: Sequence[str]) -> Reading:
        known = 1 - self.at[0] if name == "forget" else self.at[0]
        return reading(min(1.0, max(0.0, known)))

    def settle(self) -> None:
        pass

    def snap(self) -> int:
        number = max([-1, *self.kept]) + 1
        self.kept[number] = self.at
        return number

    def back(self, number: int) -> None:
        self.at = self.kept[number]
        self.done.append(("back", number))

    def moved_since(self, number: int) -> float:
        return 0.0

    def play(self, active: Sequence[str]) -> None:
        self.state.active = list(active)

    def start_anew(self, number: int) -> None:
        self.done.append(("anew", number, self.at))

    def note(self, what: str, words: str, **readings: Reading) -> None:
        self.done.append(what)
