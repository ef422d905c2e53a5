"""The closed loop: rounds of a method and of repair, accepted or taken back, until the forget set is at its level.

    sweep ─► round ─► accepted ─► round …            at its level ─► cool ─► at its level still ─► ended
               │          └─► stalls ─► restart ─┘                    └─► not any more ─► round
               └─► broke a floor, or overshot: the snapshot before, half the rate

A *round* is one to four iterations of the method, each followed by repair steps, and a reading. Floors may be overdrawn
while the rate is high (``transient``), because its noise is in the reading; what is saved was read after cooling, within
``final``. Whatever happens, the weights that are left at the end are the best cooled ones within the floors, or those
from before the run.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from accelerate.utils import set_seed

from palimpsest.contract import Method
from palimpsest.control.goal import Goal, Used, stalls, used
from palimpsest.control.probes import Probes
from palimpsest.control.readings import Reading, read
from palimpsest.control.settings import Control
from palimpsest.control.snapshots import Snapshots, write_json
from palimpsest.control.state import ControlState
from palimpsest.control.sweep import BROKEN, HALVED, HIGHEST, LOWEST, Trial, first_rate, next_rate
from palimpsest.errors import DivergedError
from palimpsest.loop.job import Ended, Job, Repair
from palimpsest.loop.machine import Machine
from palimpsest.loop.repair import Repairer
from palimpsest.loop.state import State

CONTROL = "control"  # folder of snapshots and state, in that of the run
ENDLESS = 10**6  # iterations that a method is told; schedules of its own stand at their start
WARMING = 2  # iterations at rate 0 before the sweep, for the optimizer's moments
ROUND_ITERATIONS = 4  # at most
CATCHING = 8  # annealed repair steps after a round that overdrew the floors
COOLINGS = 3  # in a row at most
SLOW = 0.12  # of w: a round that moved less may have a higher rate
MOST_REFUSED = 4
MOST_OVERSHOOTS = 2
MOST_REBOUND = 0.12
SWEEP_ROWS = {"forget": 16, "retain": 16, "general": 8}
LEAST_BUDGET = 240


@dataclass(frozen=True)
class Guided:
    """What a controlled run needs beside its job.

    Attributes:
        control: the settings.
        goal: the level, and how far away it was.
        probes: what is read.
        renew: builds the method anew from the weights at hand, for the n-th start.
        tell: called with (done, budget, note) after each stage.
    """

    control: Control
    goal: Goal
    probes: Probes
    renew: Callable[[int], Method]
    tell: Callable[[int, int, str], None]


def drive(job: Job, guided: Guided) -> Ended:
    """Take a job to its level under control, going on where a dead process stopped.

    The same job ends with the same bits on one CPU, wherever it was killed.

    Raises:
        PlanError: the method draws from a set that was not given.
    """
    return _Drive(job, guided).run()


class _Drive:
    """One controlled run in progress."""

    def __init__(self, job: Job, guided: Guided) -> None:
        self.job, self.guided, self.control, self.goal = job, guided, guided.control, guided.goal
        self.machine = Machine(job, bounded=True)
        self.repair = job.repair or Repair({}, None)
        self.repairer = Repairer(self.machine, self.repair)
        self.folder = job.folder / CONTROL
        self.snapshots = Snapshots(self.folder, self.machine, self.repairer.optimizer)
        self.state_file = self.folder / "state.json"
        self.cycle = max(1, job.method.cycle)
        self.budget = self._budget()
        self.state = self._resumed() or self._begun()

    # -- beginning and going on ------------------------------------------------------------------------------------

    def _begun(self) -> ControlState:
        state = ControlState(repairs=0 if self.job.method.repairs_itself else self.control.repairs)
        state.active = list(self.goal.active(self.goal.before))
        self.machine.log.keep(0)
        if not self.repairer.can:
            state.repairs = 0
        if self.goal.reached(self.goal.before):
            state.stage, state.reason, state.reached = "ended", "the forget set was not known: nothing to do", True
        return state

    def _resumed(self) -> ControlState | None:
        if not self.state_file.is_file():
            return None
        state = ControlState.from_json(json.loads(self.state_file.read_text(encoding="utf-8")))
        self.machine.state = State.from_json(state.loop)
        self.machine.log.keep(self.machine.state.log_rows)
        if state.starts:
            self.snapshots.restore(state.anchor, method=False)
            self._start_anew(state.starts)
        if state.here >= 0:
            self.snapshots.restore(state.here)
        return state

    def _budget(self) -> int:
        """Iterations and repair steps in all: what was asked for, else one and a half times ten passes over what stays."""
        training = self.job.training
        chosen = self.control.budget or training.max_steps
        if chosen is not None:
            return chosen
        largest = max(len(examples) for examples in (*self.job.sets.values(), *self.repair.sets.values()))
        if self.control.epochs is not None:
            return math.ceil(self.control.epochs * math.ceil(largest / training.batch_size))
        return max(LEAST_BUDGET, math.ceil(1.5 * 10 * largest / training.batch_size))

    def run(self) -> Ended:
        """All stages, each written down before the next."""
        state = self.state
        stages = {
            "sweep": self._sweep,
            "round": self._round,
            "cool": self._cool,
            "restart": self._restart,
            "last": self._last,
        }
        while state.stage != "ended":
            started = time.perf_counter()
            set_seed((self.job.training.seed + 7919 * state.stages) % 2**32)
            state.stages += 1
            self.repairer.replay_share = state.replay_share
            stages[state.stage]()
            self.machine.state.seconds += time.perf_counter() - started
            self._spend()
            self._save()
        self.machine.method.settle(self.job.model)
        self.machine.accelerator.end_training()
        return self._ended()

    def _spend(self) -> None:
        """Go to the end where a budget is used up."""
        state, seconds = self.state, self.job.training.max_seconds
        if state.stage in ("last", "ended"):
            return
        if state.iterations + state.repair_steps >= self.budget:
            state.budget = f"{self.budget} steps"
        elif seconds is not None and self.machine.state.seconds >= seconds:
            state.budget = f"{seconds:g} seconds"
        if state.budget is not None:
            state.stage, state.reason = "last", f"budget: {state.budget}; the level of never seen is not reached yet"

    def _save(self) -> None:
        self.machine.log.flush()
        self.state.loop = self.machine.state.to_json()
        write_json(self.state_file, self.state.to_json())
        self.snapshots.keep_only(self.state.snapshots)

    def _ended(self) -> Ended:
        state, loop = self.state, self.machine.state
        nothing = state.iterations == 0 or state.best == state.start
        return Ended(
            stopped=state.reason or "",
            budget=None if state.reached else state.budget or state.reason,
            steps=state.iterations + state.repair_steps,
            seconds=loop.seconds,
            check_seconds=state.reading_seconds + state.snapshot_seconds,
            tokens=loop.tokens,
            unchanged=state.reason if nothing else None,
        )

    # -- stages ----------------------------------------------------------------------------------------------------

    def _sweep(self) -> None:
        """Find the first rate; everything is as before afterwards, but for the start snapshot."""
        state = self.state
        state.start = state.here = state.earlier = state.best = self._snap()
        streams = (self.machine.state.anchor, dict(self.machine.state.sides))
        tokens = self.machine.state.tokens
        if self.cycle == 1:
            for _ in range(WARMING):
                self._iterate(0.0)
        warm = self._snap()
        trials = [self._trial(LOWEST, warm, streams)]
        while not trials[-1].crossed and next_rate(trials[-1]) <= HIGHEST:
            trials.append(self._trial(next_rate(trials[-1]), warm, streams))
        state.first_rate, state.ceiling = first_rate(trials, self.control.ceiling)
        state.rate = state.first_rate
        state.sweep_tokens = self.machine.state.tokens - tokens
        self._back(state.start)
        self.machine.state.anchor, self.machine.state.sides = streams
        self._note("sweep", f"first rate {state.first_rate:.1e} of {len(trials)} tried")
        self._play(state.active)
        state.stage = "round"

    def _trial(self, rate: float, warm: int, streams: tuple[object, object]) -> Trial:
        self._back(warm)
        self.machine.state.anchor, self.machine.state.sides = streams[0], dict(streams[1])  # type: ignore[assignment,call-overload]
        probes, few = self.guided.probes, SWEEP_ROWS
        ids = tuple(probes.forget_ids(0))[: few["forget"]]
        try:
            for _ in range(self.cycle):
                self._iterate(rate)
            self._settle()
            with self._timed("reading_seconds"):
                forget = read(self.job.model, probes.forget, ids)
                pairs = {n: w.now(self.job.model, few[n]) for n, w in probes.watched.items()}
        except DivergedError:
            return Trial(rate, math.inf, True, math.inf)
        moved = [abs(forget.nats - self.goal.before.of(ids).nats)]
        crossed = not math.isfinite(forget.nats) or self.goal.reached(forget)
        if "retain" in pairs:
            before, now = pairs["retain"]
            moved.append(abs(now.nats - before.nats))
            crossed |= not math.isfinite(now.nats) or now.es < HALVED * before.es
        if "general" in pairs:
            before, now = pairs["general"]
            crossed |= not now.nats <= before.nats + BROKEN
        return Trial(rate, used(self.control, pairs.get("retain"), pairs.get("general")).most, crossed, max(moved))

    def _round(self) -> None:
        """Iterations and repairs, a reading, and whether to go on from there."""
        state, control = self.state, self.control
        state.rounds += 1
        annealed, floors, forget = False, Used(math.inf, math.inf), None
        try:
            for _ in range(self._round_length()):
                self._iterate(state.rate)
                self._repair(state.repairs, state.rate)
            self._settle()
            floors = self._floors(whole=False)
            if floors.most > control.transient and self.repairer.can:
                self._anneal(CATCHING, state.rate)
                annealed, floors = True, self._floors(whole=False)
            forget = self._forget()
        except DivergedError:
            pass
        holds = forget is not None and math.isfinite(forget.nats) and floors.most <= control.transient
        if forget is None or not holds:
            self._refuse("a floor gave way", more_repairs=True)
        elif self.goal.overshot(forget, below=state.rebound) and state.way > SLOW:
            self._refuse("overshot", more_repairs=False)
        else:
            self._accept(forget, floors, annealed=annealed)

    def _round_length(self) -> int:
        if self.cycle > 1:
            return self.cycle
        return max(1, min(ROUND_ITERATIONS, math.ceil(len(self.state.active) / self.job.training.batch_size)))

    def _refuse(self, why: str, *, more_repairs: bool) -> None:
        state = self.state
        self._back(state.here)
        state.rate *= 0.5
        state.refused += 1
        if more_repairs and self.repairer.can:
            state.repairs = min(self.control.most_repairs, state.repairs + 1)
        self._note("taken back", f"{why}; rate {state.rate:.1e}")
        if state.refused >= MOST_REFUSED:
            state.stage, state.reason = "last", "cannot reach the level while keeping what must stay"

    def _accept(self, forget: Reading, floors: Used, *, annealed: bool) -> None:
        state, control, goal = self.state, self.control, self.goal
        gained, state.way, state.refused = state.way - goal.way(forget), goal.way(forget), 0
        here = self._snap()
        self._note("accepted", self._in_numbers(forget, floors), forget=forget, floors=floors)
        self._play(self._still_active(forget, state.rebound))
        if goal.reached(forget, below=state.rebound):
            state.ma_reached, state.here, state.stage = forget.ma, here, "cool"
            return
        state.earlier = state.here = here
        state.ways.append(state.way)
        state.nats.append(forget.nats)
        if stalls(state.ways, state.nats):
            if state.starts >= control.second_starts:
                state.stage, state.reason = "last", f"stalls after {state.starts} second starts"
            else:
                state.stage = "restart"
            return
        least = 0 if self.job.method.repairs_itself else 1
        if not annealed and gained < SLOW:
            state.rate = min(state.ceiling, state.rate * control.growth)
        if annealed:
            state.repairs = min(control.most_repairs, state.repairs + 1)
        elif floors.most < 0.3 * control.transient and state.repairs > least:
            state.repairs -= 1

    def _cool(self) -> None:
        """Anneal the repair to zero, and see whether the level holds."""
        state, control, goal = self.state, self.control, self.goal
        floors, forget = self._cooled()
        way = goal.way(forget)
        here = self._snap()
        self._note("cooled", self._in_numbers(forget, floors), forget=forget, floors=floors)
        if floors.most <= control.final and way < state.best_way:
            state.best, state.best_way, state.best_used = here, way, _numbers(floors)
        state.way = way
        if goal.reached(forget) and floors.most <= control.final:
            if goal.overshot(forget) and state.overshoots < MOST_OVERSHOOTS:
                self._step_back_from(forget)
                return
            state.here = here
            state.stage, state.reason, state.reached = "ended", "the forget set is at the level of never seen", True
            return
        if goal.reached(forget):
            state.repairs = min(control.most_repairs, state.repairs + 1)
        state.rebound = min(MOST_REBOUND, max(state.rebound, forget.ma - state.ma_reached))
        state.here, state.stage = here, "round"
        self._play(self._still_active(forget, state.rebound))

    def _step_back_from(self, forget: Reading) -> None:
        """Over-forgotten even after cooling: go back to where the level was not yet reached, with half the rate."""
        state = self.state
        state.overshoots += 1
        state.rate *= 0.5
        state.rebound = 0.0
        state.here = state.earlier
        self._back(state.here)
        forget = self._forget()
        state.way, state.stage = self.goal.way(forget), "round"
        self._play(self._still_active(forget, 0.0))

    def _restart(self) -> None:
        """A second start: the method's reference and masks anew, from annealed weights."""
        state = self.state
        self._anneal(self.control.cooling, state.first_rate)
        state.starts += 1
        self.machine.state.step = 0
        state.anchor = self._snap()
        self._start_anew(state.starts)
        state.here = state.earlier = self._snap()
        state.rate, state.ways, state.nats = state.first_rate, [], []
        forget = self._forget()
        state.way, state.stage = self.goal.way(forget), "round"
        self._note("second start", f"number {state.starts}", forget=forget)
        self._play(self._still_active(forget, state.rebound))

    def _start_anew(self, number: int) -> None:
        set_seed((self.job.training.seed + 104729 * number) % 2**32)
        self.machine.method = self.guided.renew(number)

    def _last(self) -> None:
        """Cool where it stands; keep the best cooled weights within the floors, or those from before the run."""
        state, goal = self.state, self.goal
        self._back(state.here)
        floors, forget = self._cooled()
        way = goal.way(forget)
        if floors.most <= self.control.final and way <= state.best_way:
            state.best, state.best_way, state.best_used = self._snap(), way, _numbers(floors)
            state.reached = goal.reached(forget)
        self._note("last", self._in_numbers(forget, floors), forget=forget, floors=floors)
        self._back(state.best)
        state.here, state.stage = state.best, "ended"
        if state.reached:
            state.reason = "the forget set is at the level of never seen"
        elif state.best == state.start:
            state.reason = f"{state.reason}: the weights are those from before the run"
        else:
            state.reason = f"{state.reason}; {state.best_way:.0%} of the way are left"

    # -- what stages are made of -----------------------------------------------------------------------------------

    def _cooled(self) -> tuple[Used, Reading]:
        floors = Used(0.0, 0.0)
        for _ in range(COOLINGS):
            self._anneal(self.control.cooling, self.state.first_rate)
            floors = self._floors(whole=True)
            if floors.most <= 1 or not self.repairer.can:
                break
        return floors, self._forget()

    def _iterate(self, rate: float) -> None:
        machine = self.machine
        with self._timed("step_seconds"):
            if machine.state.anchor.exhausted:
                machine.state.anchor = machine.state.anchor.restart(machine.state.anchor.ids)
                machine.state.epoch += 1
            machine.iterate(rate, ENDLESS)
        if self.state.stage != "sweep":
            self.state.iterations += 1
        self._tell("")

    def _repair(self, count: int, rate: float) -> None:
        for _ in range(count if self.repairer.can else 0):
            with self._timed("step_seconds"):
                self.repairer.step(rate)
            self.state.repair_steps += 1

    def _anneal(self, count: int, rate: float) -> None:
        for step in range(count):
            self._repair(1, rate * (1 - step / count))

    def _settle(self) -> None:
        self.machine.method.settle(self.job.model)

    def _floors(self, *, whole: bool) -> Used:
        with self._timed("reading_seconds"):
            floors, readings = self.guided.probes.floors(self.job.model, whole=whole)
        self.state.reading_tokens += sum(reading.positions for reading in readings.values())
        if math.isfinite(floors.most):
            self.state.replay_share = self.repairer.replay_share = floors.replay_share
        return floors

    def _forget(self) -> Reading:
        probes = self.guided.probes
        with self._timed("reading_seconds"):
            reading = read(self.job.model, probes.forget, probes.forget_ids(self.state.rounds))
        self.state.reading_tokens += reading.positions
        return reading

    def _still_active(self, forget: Reading, below: float) -> list[str]:
        """Rows read now that still need work, and those of a large set that were not read this time."""
        found = set(self.goal.active(forget, below=below)) | (set(self.state.active) - set(forget.rows))
        return [i for i in self.guided.probes.forget.ids if i in found]

    def _play(self, active: list[str]) -> None:
        """Give these forget rows to the batches from now on."""
        self.state.active = active
        loop = self.machine.state
        if self.machine.anchor_name == "forget":
            if tuple(active) != loop.anchor.ids:
                loop.anchor = loop.anchor.restart(active)
        elif "forget" in loop.sides and tuple(active) != loop.sides["forget"].ids:
            loop.sides["forget"] = loop.sides["forget"].restart(active)

    def _snap(self) -> int:
        self._settle()
        number = max([-1, *self.state.snapshots, self._newest]) + 1
        self._newest = number
        with self._timed("snapshot_seconds"):
            return self.snapshots.take(number)

    _newest = -1

    def _back(self, number: int) -> None:
        with self._timed("snapshot_seconds"):
            self.snapshots.restore(number)

    @contextmanager
    def _timed(self, what: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            setattr(self.state, what, getattr(self.state, what) + time.perf_counter() - started)

    def _in_numbers(self, forget: Reading, floors: Used) -> str:
        return (
            f"MA {forget.ma:.2f}, ES {forget.es:.2f}, {self.goal.way(forget):.0%} of the way left, floors used "
            + ", ".join(f"{name} {value:.2f}" for name, value in vars(floors).items() if value is not None)
        )

    def _note(self, what: str, note: str, *, forget: Reading | None = None, floors: Used | None = None) -> None:
        """One row of the log; with a reading, a point of the curves."""
        state = self.state
        row = {"kind": "control", "what": what, "note": note, "rate": state.rate, "repairs": state.repairs}
        self.machine.write({**row, "step": state.iterations + state.repair_steps})
        if forget is not None:
            values = {"forget.ma": forget.ma, "forget.es": forget.es, "forget.nats": forget.nats}
            self.machine.write(
                {"kind": "check", "step": state.iterations + state.repair_steps, "active": len(state.active), **values}
            )
        self._tell(f"{what}: {note}")

    def _tell(self, note: str) -> None:
        self.guided.tell(min(self.budget, self.state.iterations + self.state.repair_steps), self.budget, note)


def _numbers(floors: Used) -> list[float]:
    return [value for value in (floors.retain, floors.general) if value is not None]
