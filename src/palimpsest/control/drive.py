"""The closed loop: rounds of a method and of repair, accepted or taken back, until the forget set is at its level.

    sweep ─► round ─► accepted ─► round …            at its level ─► cool ─► at its level still ─► ended
               │          └─► stalls ─► restart ─┘                    └─► not any more ─► round
               └─► broke a floor, or overshot: the snapshot before, half the rate

A *round* is one to four iterations of the method, each followed by repair steps, and a reading. Floors may be overdrawn
while the rate is high (``transient``), because its noise is in the reading; what is saved was read after cooling,
within ``final``. Whatever happens, the weights that are left at the end are the best cooled ones within the floors, or
those from before the run. Where nobody gave general text and the model's own words stand in, and nothing was within
that floor too, they are the best ones within the others and ``transient`` there: a model of few rows says blends of
them, which cannot all stay, and no gate asks for them. An update goes on until its learn set is learned as well.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

from palimpsest.control.goal import Aims, Standing, Used, stalls
from palimpsest.control.hands import Hands, Tools
from palimpsest.control.sweep import sweep
from palimpsest.errors import DivergedError
from palimpsest.loop.job import Ended, Job
from palimpsest.loop.legs import told_of_turns

ROUND_ITERATIONS = 4  # at most
CATCHING = 8  # annealed repair steps after a round that overdrew the floors
SLOW = 0.12  # of w: a round that moved less may have a higher rate
_EASY = 0.75  # units: a round that used less may have fewer repairs
FASTER = 2.0  # times the first rate and its ceiling, for a second start with room to spare
MOST_REFUSED = 4
MOST_OVERSHOOTS = 2
MOST_REBOUND = 0.12
AT_LEVEL = "the forget set is at the level of never seen"
OWN_WORDS_CHANGED = "; what the model says by itself changed more than it should"


@dataclass(frozen=True)
class Guided:
    """What a controlled run needs beside its job.

    Attributes:
        tools: settings, probes and the way to build the method anew.
        aims: where the forget set, and a learn set beside it, should end.
    """

    tools: Tools
    aims: Aims


def drive(job: Job, guided: Guided) -> Ended:
    """Take a job to its level under control, going on where a dead process stopped.

    The same job ends with the same bits on one CPU, wherever it was killed.

    Raises:
        PlanError: the method draws from a set that was not given.
    """
    return _Drive(job, guided).run()


class _Drive:
    """One controlled run in progress: what each stage does and decides."""

    def __init__(self, job: Job, guided: Guided) -> None:
        self.job, self.aims, self.goal = job, guided.aims, guided.aims.goal
        self.control = guided.tools.control
        self.hands = Hands(job, guided.tools)
        self.state = self.hands.state
        self.hands.hold_back(self.control.cooling)
        if self.hands.is_new:
            self.state.active = self.goal.active(self.goal.before)
            if self.goal.reached(self.goal.before) and self.aims.lesson is None:
                self._end("the forget set was not known: nothing to do", reached=True)

    def run(self) -> Ended:
        """All stages, each written down before the next."""
        state, hands = self.state, self.hands
        stages = {
            "sweep": self._sweep,
            "round": self._round,
            "cool": self._cool,
            "restart": self._restart,
            "last": self._last,
        }
        while state.stage != "ended":
            started = time.perf_counter()
            hands.begin_stage()
            stages[state.stage]()
            hands.machine.state.seconds += time.perf_counter() - started
            if state.stage not in ("last", "ended") and (budget := hands.spent()) is not None:
                state.budget = budget
                self._give_up(f"budget: {budget}; the level of never seen is not reached yet")
            hands.end_stage()
        hands.settle()
        hands.machine.accelerator.end_training()
        return self._ended()

    def _ended(self) -> Ended:
        state, loop = self.state, self.hands.machine.state
        nothing = state.iterations == 0 or (state.best == state.start and not state.reached)
        return Ended(
            stopped=told_of_turns(state.reason or "", self.hands.machine.legs),
            budget=None,  # what it was to reach is held against the scores, however it ended
            steps=state.taken,
            seconds=loop.seconds,
            check_seconds=state.reading_seconds + state.snapshot_seconds,
            tokens=loop.tokens,
            method=self.hands.machine.method,
            parts=self.hands.parts,
            short=None if state.reached else state.reason,
            unchanged=state.reason if nothing else None,
        )

    # -- stages ----------------------------------------------------------------------------------------------------

    def _sweep(self) -> None:
        """Find the first rate."""
        state = self.state
        state.start = state.here = state.earlier = state.best = self.hands.snap()
        ids = tuple(self.hands.probes.ids("forget", 0))
        before = self.goal.before.of(ids)
        sweep(self.hands, "forget", before, crosses=self.goal.reached)
        self.hands.play(state.active)
        state.stage = "round"

    def _round(self) -> None:
        """Iterations and repairs, a reading, and whether to go on from there."""
        state, hands, transient = self.state, self.hands, self.control.transient
        state.rounds += 1
        annealed, floors, now = False, Used(math.inf, math.inf), None
        length = self._round_length()
        steps = length * (1 + state.repairs)
        try:
            for _ in range(length):
                hands.iterate(state.rate)
                hands.mend(state.repairs, state.rate)
            hands.settle()
            floors = hands.floors(whole=False, steps=steps)
            if floors.most > transient and hands.repairer.can:
                hands.anneal(CATCHING, state.rate)
                annealed, floors = True, hands.floors(whole=False)
            now = self._standing()
        except DivergedError:
            pass  # taken back below, like any other round that broke something
        if now is None or not now.is_finite or floors.most > transient:
            self._refuse("a floor gave way", more_repairs=True)
        elif self.goal.overshot(now.forget, below=state.rebound) and state.way > SLOW:
            self._refuse("overshot", more_repairs=False)
        else:
            self._accept(now, floors, annealed=annealed)

    def _cool(self) -> None:
        """Anneal the repair to zero, and see whether the level holds."""
        state, goal = self.state, self.goal
        floors = self.hands.cool()
        now = self._standing()
        here = self._keep_if_best(now, floors)
        state.way = self.aims.way(now)
        within = floors.most <= self.control.final
        if self.aims.reached(now) and within and not (goal.overshot(now.forget) and state.overshoots < MOST_OVERSHOOTS):
            state.here = here
            self._end(AT_LEVEL, reached=True)
        elif self.aims.reached(now) and within:
            self._step_back()
        else:
            if self.aims.reached(now):
                self._more_repairs()
            state.rebound = min(MOST_REBOUND, max(state.rebound, now.forget.ma - state.ma_reached))
            state.here = here
            self._go_on(now, state.rebound)

    def _restart(self) -> None:
        """A second start: reference and masks anew, from annealed weights, which may be the best so far."""
        state, hands = self.state, self.hands
        hands.anneal(self.control.cooling, state.first_rate)
        self._keep_if_best(self._standing(), hands.floors(whole=True, moves=False))
        state.starts += 1
        hands.machine.state.step = 0
        state.anchor = hands.snap()
        hands.start_anew(state.starts)
        state.here = state.earlier = hands.snap()
        if state.spare:  # it stalled with room to spare: for want of speed, not of care
            state.first_rate, state.ceiling = FASTER * state.first_rate, FASTER * state.ceiling
        state.rate, state.ways, state.nats = state.first_rate, [], []
        now = self._standing()
        state.way = self.aims.way(now)
        hands.note("second start", f"number {state.starts}")
        self._go_on(now, state.rebound)

    def _last(self) -> None:
        """Cool where it stands; keep the best cooled weights within the floors, or those from before the run."""
        state, hands = self.state, self.hands
        hands.hold_back(0)
        hands.back(state.here)
        floors = hands.cool()
        now = self._standing()
        number = self._keep_if_best(now, floors)
        changed = ""
        if state.best == state.start and state.second >= 0:
            state.best, state.best_way, changed = state.second, state.second_way, OWN_WORDS_CHANGED
        reached = number == state.best and self.aims.reached(now)
        hands.back(state.best)
        state.here = state.best
        if reached:
            self._end(AT_LEVEL + changed, reached=True)
        elif state.best == state.start:
            self._end(f"{state.reason}: the weights are those from before the run", reached=False)
        else:
            self._end(f"{state.reason}; {state.best_way:.0%} of the way is left{changed}", reached=False)

    # -- decisions -------------------------------------------------------------------------------------------------

    def _accept(self, now: Standing, floors: Used, *, annealed: bool) -> None:
        state, way = self.state, self.aims.way(now)
        gained, state.way, state.refused = state.way - way, way, 0
        here = self.hands.snap()
        state.spare = floors.most < _EASY
        self._note("accepted", now, floors)
        self._go_on(now, state.rebound)
        if self.aims.reached(now, below=state.rebound):
            state.ma_reached, state.here, state.stage = now.forget.ma, here, "cool"
            return
        state.earlier = state.here = here
        state.ways.append(way)
        state.nats.append(now.forget.nats)
        if stalls(state.ways, state.nats):
            self._start_again()
            return
        if not annealed and gained < SLOW:
            state.rate = min(state.ceiling, state.rate * self.control.growth)
        if annealed:
            self._more_repairs()
        elif floors.most < _EASY and state.repairs > 0:
            state.repairs -= 1

    def _refuse(self, why: str, *, more_repairs: bool) -> None:
        state = self.state
        self.hands.back(state.here)
        state.rate *= 0.5
        state.refused += 1
        if more_repairs:
            self._more_repairs()
        self.hands.note("taken back", f"{why}; rate {state.rate:.1e}")
        if state.refused >= MOST_REFUSED:
            self._give_up("cannot reach the level while keeping what must stay")

    def _step_back(self) -> None:
        """Over-forgotten even after cooling: go back to where the level was not yet reached, with half the rate."""
        state = self.state
        state.overshoots += 1
        state.rate *= 0.5
        state.rebound = 0.0
        state.here = state.earlier
        self.hands.back(state.here)
        now = self._standing()
        state.way = self.aims.way(now)
        self._go_on(now, 0.0)

    def _start_again(self) -> None:
        if self.state.starts >= self.control.second_starts:
            self._give_up(f"stalls after {self.state.starts} second starts")
        else:
            self.state.stage = "restart"

    def _more_repairs(self) -> None:
        if self.hands.repairer.can:
            self.state.repairs = min(self.control.most_repairs, self.state.repairs + 1)

    def _keep_if_best(self, now: Standing, floors: Used) -> int:
        """A snapshot of cooled weights, and whether it is the best within the floors so far."""
        state, way = self.state, self.aims.way(now)
        number = self.hands.snap()
        self._note("cooled", now, floors)
        nearer = way < state.best_way or (way == state.best_way and state.best != state.start)
        if floors.most <= self.control.final and nearer:
            state.best, state.best_way = number, way
        elif self._breaks_own_words_alone(floors) and way < state.second_way:
            state.second, state.second_way = number, way
        return number

    def _breaks_own_words_alone(self, floors: Used) -> bool:
        kept = (floors.retain or 0.0) <= self.control.final and (floors.general or 0.0) <= self.control.transient
        return self.hands.probes.spoken and kept

    def _go_on(self, now: Standing, below: float) -> None:
        """The next round, over the rows that still need work, and those of a large set that were not read this time."""
        found = set(self.goal.active(now.forget, below=below)) | (set(self.state.active) - set(now.forget.rows))
        self.hands.play([i for i in self.hands.probes.sets["forget"].ids if i in found])
        self.state.stage = "round"

    def _give_up(self, reason: str) -> None:
        self.state.stage, self.state.reason = "last", reason

    def _end(self, reason: str, *, reached: bool) -> None:
        self.state.stage, self.state.reason, self.state.reached = "ended", reason, reached

    # -- what decisions look at ------------------------------------------------------------------------------------

    def _standing(self) -> Standing:
        probes, turn = self.hands.probes, self.state.rounds
        forget = self.hands.read("forget", probes.ids("forget", turn))
        learn = None if self.aims.lesson is None else self.hands.read("learn", probes.ids("learn", turn))
        return Standing(forget, learn)

    def _round_length(self) -> int:
        turns = self.hands.turns
        if self.hands.cycle > turns:
            return self.hands.cycle
        return turns * max(1, min(ROUND_ITERATIONS, math.ceil(len(self.state.active) / self.job.training.batch_size)))

    def _note(self, what: str, now: Standing, floors: Used) -> None:
        spent = ", ".join(f"{name} {value:.2f}" for name, value in vars(floors).items() if value is not None)
        words = (
            f"MA {now.forget.ma:.2f}, ES {now.forget.es:.2f}, {self.aims.way(now):.0%} of the way left, floors: {spent}"
        )
        readings = {"forget": now.forget} | ({} if now.learn is None else {"learn": now.learn})
        self.hands.note(what, words, **readings)
