"""What a controlled run does, without deciding anything: iterations, repairs, readings, snapshots, notes."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from accelerate.utils import set_seed

from palimpsest.contract import Method
from palimpsest.control.goal import Used
from palimpsest.control.guided_state import ControlState
from palimpsest.control.probes import FULL_ROUND, Probes
from palimpsest.control.readings import Reading, read
from palimpsest.control.settings import Control, budget_of
from palimpsest.control.snapshots import Snapshots
from palimpsest.in_words import so_many
from palimpsest.loop.job import Job, Repair
from palimpsest.loop.machine import Machine
from palimpsest.loop.repair import Repairer
from palimpsest.models.sealed_json import read_sealed, write_sealed

CONTROL = "control"  # folder of snapshots and state, in that of the run
ENDLESS = 10**6  # iterations that a method is told; schedules of its own stand at their start
COOLINGS = 3  # in a row at most

Renew = Callable[[int], Method]
Tell = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Tools:
    """What the hands are given beside a job.

    Attributes:
        control: the settings.
        probes: what is read.
        renew: builds the method anew from the weights at hand, for the n-th start.
        tell: called with (done, budget, note).
    """

    control: Control
    probes: Probes
    renew: Renew
    tell: Tell


class Hands:
    """One controlled run's machine, repair, snapshots and state.

    Attributes:
        state: where the run stands; None until ``begin`` or ``resume``.
        turns: stages that iterations go through in turn.
        cycle: iterations that belong together.
    """

    def __init__(self, job: Job, tools: Tools) -> None:
        self.job, self.tools, self.probes = job, tools, tools.probes
        self.machine = Machine(job, bounded=True)
        self.repair = job.repair or Repair({}, None)
        self.repairer = Repairer(self.machine, self.repair)
        self.turns = max(1, len(self.machine.legs))
        self.cycle = max(1, job.method.cycle) * self.turns
        folder = job.folder / CONTROL
        self._snapshots = Snapshots(folder, self.machine, self.repairer.optimizer)
        self._state_file = folder / "state.json"
        self._newest, self._held_back = -1, 0
        largest = max(len(examples) for examples in (*job.sets.values(), *self.repair.sets.values()))
        self.budget = budget_of(tools.control, job.training, largest)
        self.state = self._resumed() or ControlState(repairs=self._first_repairs())

    # -- going on --------------------------------------------------------------------------------------------------

    @property
    def is_new(self) -> bool:
        """Has no stage been finished yet?"""
        return self.state.stages == 0

    def _first_repairs(self) -> int:
        own = self.job.method.repairs_itself or not self.repairer.can
        self.machine.log.keep(0)
        return 0 if own else self.tools.control.repairs

    def _resumed(self) -> ControlState | None:
        if not self._state_file.is_file():
            return None
        state = ControlState.from_json(read_sealed(self._state_file))
        self.machine.resume(state.loop)
        if state.starts:
            self._snapshots.restore(state.anchor, method=False)
            self.start_anew(state.starts)
        if state.here >= 0:
            self._snapshots.restore(state.here)
        return state

    def begin_stage(self) -> None:
        """Seed the randomness of the next stage: a function of the run's seed and the stage's number."""
        set_seed((self.job.training.seed + 7919 * self.state.stages) % 2**32)
        self.state.stages += 1
        self.repairer.replay_share = self.state.replay_share

    def end_stage(self) -> None:
        """Write down where the run stands; what nobody needs any more is deleted after that.

        Raises:
            KeyboardInterrupt: the run was asked to stop.
        """
        with self.timed("snapshot_seconds"):
            self.machine.log.flush()
            self.state.loop = self.machine.standing()
            write_sealed(self._state_file, self.state.to_json())
            self._snapshots.keep_only(self.state.snapshots)
        self.job.stop.heed()

    @property
    def left(self) -> int:
        """Iterations and repair steps that the budget still allows, but for those held back for the end of the run."""
        return max(0, self.budget - self._held_back - self.state.taken)

    def hold_back(self, steps: int) -> None:
        """Keep so many steps of the budget, at most half of it, for the end of the run; 0 gives them free."""
        self._held_back = min(steps, self.budget // 2)

    def spent(self) -> str | None:
        """The budget that is used up, or None."""
        seconds = self.job.training.max_seconds
        if not self.left:
            return so_many(self.budget, "step")
        if seconds is not None and self.machine.state.seconds >= seconds:
            return so_many(seconds, "second")
        return None

    def start_anew(self, number: int) -> None:
        """The method with reference and masks of the weights at hand."""
        set_seed((self.job.training.seed + 104729 * number) % 2**32)
        self.machine.start_anew(self.tools.renew(number))

    @property
    def parts(self) -> dict[str, tuple[float, int]]:
        """Where the time went: kind of work -> seconds and positions. Trials of the sweep are steps."""
        state = self.state
        return {
            "steps": (state.step_seconds, self.machine.state.tokens),
            "readings": (state.reading_seconds, state.reading_tokens),
            "snapshots": (state.snapshot_seconds, 0),
        }

    # -- steps -----------------------------------------------------------------------------------------------------

    def iterate(self, rate: float, *, trial: bool = False) -> None:
        """One iteration of the method, unless the budget is used up.

        Args:
            rate: learning rate.
            trial: it will be taken back, and counts in no budget.
        """
        machine = self.machine
        if not (trial or self.left):
            return
        with self.timed("step_seconds"):
            machine.take_turn()
            if machine.state.anchor.exhausted:
                machine.state.anchor = machine.state.anchor.restart(machine.state.anchor.ids)
                machine.state.epoch += 1
            machine.iterate(rate, ENDLESS)
        self.state.iterations += not trial
        self.tell("")

    def mend(self, count: int, rate: float) -> None:
        """Repair steps at one rate, within the budget; none where there is nothing to repair on."""
        for _ in range(min(count, self.left) if self.repairer.can else 0):
            with self.timed("step_seconds"):
                self.repairer.step(rate)
            self.state.repair_steps += 1

    def anneal(self, count: int, rate: float) -> None:
        """Repair steps from a rate to zero."""
        for step in range(count):
            self.mend(1, rate * (1 - step / count))

    def cool(self) -> Used:
        """Annealed repair, again while the floors are used up, and what is used of them then."""
        floors = Used(0.0, 0.0) if self.job.method.cools else self.floors(whole=True)
        if not self.job.method.cools and floors.most <= 1:
            return floors
        for _ in range(COOLINGS):
            self.anneal(self.tools.control.cooling, self.state.first_rate)
            floors = self.floors(whole=True)
            if floors.most <= 1 or not self.repairer.can:
                break
        return floors

    def settle(self) -> None:
        """Bring the weights to what would be saved now."""
        self.machine.settle()

    # -- readings --------------------------------------------------------------------------------------------------

    def floors(self, *, whole: bool, steps: int = FULL_ROUND, moves: bool = True) -> Used:
        """What is used up of the floors (``Probes.floors``); moves the share of replay to where it is needed."""
        with self.timed("reading_seconds"):
            floors, readings = self.probes.floors(self.job.model, whole=whole, steps=steps)
        self.state.reading_tokens += sum(reading.positions for reading in readings.values())
        if moves and math.isfinite(floors.most):
            self.state.replay_share = self.repairer.replay_share = floors.replay_share
        return floors

    def read(self, name: str, ids: Sequence[str]) -> Reading:
        """Rows of "forget" or "learn" as they are now."""
        with self.timed("reading_seconds"):
            reading = read(self.job.model, self.probes.sets[name], ids, eos_ids=self.probes.eos_ids)
        self.state.reading_tokens += reading.positions
        return reading

    # -- snapshots and streams -------------------------------------------------------------------------------------

    def snap(self) -> int:
        """A snapshot of what is; its number."""
        self.settle()
        self._newest = max([self._newest, *self.state.snapshots]) + 1
        with self.timed("snapshot_seconds"):
            return self._snapshots.take(self._newest)

    def moved_since(self, number: int) -> float:
        """How far the weights are from a snapshot, as a share of their size (``Snapshots.moved``)."""
        with self.timed("snapshot_seconds"):
            return self._snapshots.moved(number)

    def back(self, number: int) -> None:
        """Back to a snapshot."""
        with self.timed("snapshot_seconds"):
            self._snapshots.restore(number)

    def play(self, active: Sequence[str]) -> None:
        """Give these forget rows to the batches from now on."""
        self.state.active = list(active)
        loop = self.machine.state
        if self.machine.anchor_name == "forget":
            if tuple(active) != loop.anchor.ids:
                loop.anchor = loop.anchor.restart(active)
        elif "forget" in loop.sides and tuple(active) != loop.sides["forget"].ids:
            loop.sides["forget"] = loop.sides["forget"].restart(active)

    # -- telling ---------------------------------------------------------------------------------------------------

    @contextmanager
    def timed(self, what: str) -> Iterator[None]:
        """Add the block's wall clock to a counter of the state."""
        started = time.perf_counter()
        try:
            yield
        finally:
            setattr(self.state, what, getattr(self.state, what) + time.perf_counter() - started)

    def note(self, what: str, words: str, **readings: Reading) -> None:
        """One row of the log, and word to whoever watches; readings become a point of the curves."""
        state, step = self.state, self.state.taken
        row = {"kind": "control", "what": what, "note": words, "rate": state.rate, "repairs": state.repairs}
        self.machine.write({**row, "step": step})
        if readings:
            values = {f"{name}.{key}": getattr(r, key) for name, r in readings.items() for key in ("ma", "es", "nats")}
            self.machine.write({"kind": "check", "step": step, "active": len(state.active), **values})
        self.tell(f"{what}: {words}")

    def tell(self, words: str) -> None:
        """Progress, with a word."""
        self.tools.tell(min(self.budget, self.state.taken), self.budget, words)
