"""Learning under control: rounds of a learning method, accepted or taken back, until its loss no longer falls.

    sweep ─► round ─► fell ─► round …        no longer falls, or known by heart ─► last ─► ended
               └─► rose, or broke a floor: the snapshot before, half the rate

What must fall is the loss on the holdout where one is given (so that a run ends before it learns by heart), else on the
learned rows themselves. The rate grows while rounds gain, and is halved from the first round that gains nothing: a
plateau at a high rate is noise. The last stage anneals it to zero. Where no
floor bounds the sweep, a rate that moves the median matrix by a tenth of its size in one iteration does: a model that
knows nothing gains by any leap at first. Where batch normalisation never saw data its statistics are brought to the
data first, at rate 0: until they are, readings rise whatever the rate. Floors hold as in unlearning, for the retain set
and general text that were given; where neither was, nothing is watched and nothing repaired.

Source: the sweep as in ``sweep.py``; halving on a plateau and stopping early after Prechelt 1998, "Early stopping, but
when?", with rounds that can be taken back.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

from palimpsest.control.goal import Used
from palimpsest.control.hands import Hands, Tools
from palimpsest.control.readings import Reading
from palimpsest.control.sweep import sweep
from palimpsest.data.encode.batch_norm import statistics_fresh
from palimpsest.errors import DivergedError
from palimpsest.loop.job import Ended, Job
from palimpsest.loop.legs import told_of_turns

LEAST_ROUND, MOST_ROUND = 10, 25  # iterations; one pass where it lies between
_BY_HEART = 0.02  # nats per scored position
GAIN = 0.01  # share of the loss that a round must take off to count
_EASY = 0.75  # units of the floors: a round that used less may have a higher rate and fewer repairs
ROSE = 1.05  # times the loss before a round, and
ROSE_BY = 0.02  # nats: what a round may add
LEAP = 0.1  # share of its size that a matrix may move by in one iteration
PATIENCE = 4  # rounds without a gain
MOST_HALVED = 16  # times below the first rate: what is learned there the annealing learns as well
MOST_REFUSED_ROUNDS = 4
SETTLING = 40  # iterations at rate 0; statistics with the usual momentum of 0.1 are then within 2 % of the data's


@dataclass(frozen=True)
class Taught:
    """What a controlled learning run needs beside its job.

    Attributes:
        tools: settings, probes and the way to build the method anew.
        name: the set that is learned: "learn", or "retain" of a retraining.
        before: reading of its probe before the run.
        validates: is the holdout's loss what must fall?
    """

    tools: Tools
    name: str
    before: Reading
    validates: bool


def teach(job: Job, taught: Taught) -> Ended:
    """Take a learning job to where its loss no longer falls, going on where a dead process stopped."""
    return _Teaching(job, taught).run()


class _Teaching:
    """One controlled learning run in progress."""

    def __init__(self, job: Job, taught: Taught) -> None:
        self.job, self.taught, self.control = job, taught, taught.tools.control
        self.hands = Hands(job, taught.tools)
        self.state = self.hands.state
        passes = math.ceil(len(job.sets[self.hands.machine.legs[0].anchor]) / job.training.batch_size)
        self.patience = PATIENCE // 2 if taught.validates else PATIENCE
        self.length = max(LEAST_ROUND, min(MOST_ROUND, passes))
        self.hands.hold_back(self.length)

    def run(self) -> Ended:
        """All stages, each written down before the next."""
        state, hands = self.state, self.hands
        stages = {"sweep": self._sweep, "round": self._round, "last": self._last}
        while state.stage != "ended":
            started = time.perf_counter()
            hands.begin_stage()
            stages[state.stage]()
            hands.machine.state.seconds += time.perf_counter() - started
            if state.stage == "round" and (budget := hands.spent()) is not None:
                state.stage, state.reason, state.budget = "last", f"{budget} as planned", budget
            hands.end_stage()
        hands.settle()
        hands.machine.accelerator.end_training()
        loop, unchanged = hands.machine.state, state.best == state.start
        return Ended(
            stopped=told_of_turns(state.reason or "", hands.machine.legs),
            budget=None,  # a length that was planned is no verdict on what was learned
            steps=state.taken,
            seconds=loop.seconds,
            check_seconds=state.reading_seconds + state.snapshot_seconds,
            tokens=loop.tokens,
            parts=hands.parts,
            unchanged="no round held the floors: the weights are those from before the run" if unchanged else None,
        )

    def _sweep(self) -> None:
        state = self.state
        before, factor = self.taught.before, 1.0
        if statistics_fresh(self.job.model):
            for _ in range(SETTLING):
                self.hands.iterate(0.0, trial=True)
            before, factor = self.hands.read(self.taught.name, list(before.rows)), ROSE  # they go on wavering
        state.start = state.here = state.best = self.hands.snap()
        rose = lambda now: now.nats > factor * before.of(now.rows).nats + ROSE_BY  # noqa: E731
        sweep(self.hands, self.taught.name, before, crosses=rose, furthest=LEAP)
        state.learned = before.nats
        state.stage = "round"

    def _round(self) -> None:
        state = self.state
        state.rounds += 1
        floors, loss, learned = Used(math.inf, math.inf), math.inf, math.inf
        try:
            self._iterate(self.length, annealed=False)
            floors = self._floors(whole=False)
            loss, learned = self._loss()
        except DivergedError:
            pass  # taken back below
        if not math.isfinite(learned) or floors.most > self.control.transient or learned > self._bound():
            self._refuse(learned)
        else:
            self._accept(loss, learned, floors)

    def _bound(self) -> float:
        return ROSE * self.state.learned + ROSE_BY

    def _refuse(self, learned: float) -> None:
        state = self.state
        self.hands.back(state.here)
        state.rate *= 0.5
        state.ceiling = state.rate
        state.refused += 1
        if self.hands.repairer.can:
            state.repairs = min(self.control.most_repairs, state.repairs + 1)
        self.hands.note("taken back", f"loss {learned:.3f}; rate {state.rate:.1e}")
        if state.refused >= MOST_REFUSED_ROUNDS:
            state.stage, state.reason = "last", "no rate takes it further within the floors"

    def _accept(self, loss: float, learned: float, floors: Used) -> None:
        state = self.state
        state.refused, state.here = 0, self.hands.snap()
        gain = 1.0 if state.loss is None else (state.loss - loss) / state.loss
        state.learned = learned
        self.hands.note("accepted", f"loss {loss:.3f}, of the learned rows {learned:.3f}, floors {floors.most:.2f}")
        if gain > GAIN:
            state.best, state.loss, state.idle = state.here, loss, 0
            self._ease(floors)
        else:
            state.idle += 1
            state.rate *= 0.5
            state.ceiling = state.rate
        if learned <= _BY_HEART and not self.taught.validates:
            state.stage, state.reason = "last", "known by heart"
        elif state.idle >= self.patience or state.rate < state.first_rate / MOST_HALVED:
            state.stage, state.reason = "last", "the loss no longer falls"

    def _ease(self, floors: Used) -> None:
        """A round that gained and cost little: a higher rate next, and fewer repairs."""
        state = self.state
        if floors.most < _EASY:
            state.rate = min(state.ceiling, state.rate * self.control.growth)
            state.repairs = max(0, state.repairs - 1)

    def _last(self) -> None:
        """Anneal from the best weights; keep what that gives if it is no worse and within the floors."""
        state, hands = self.state, self.hands
        hands.hold_back(0)
        hands.back(state.best)
        if state.best == state.start:
            state.stage = "ended"
            return
        try:
            self._iterate(self.length, annealed=True)
            floors = self._floors(whole=True)
            if floors.most > self.control.final:
                floors = hands.cool()
            loss, learned = self._loss()
        except DivergedError:
            floors, loss, learned = Used(math.inf, math.inf), math.inf, math.inf
        if state.loss is not None and loss <= state.loss and floors.most <= self.control.final:
            state.best = hands.snap()
            hands.note("annealed", f"loss {loss:.3f}, of the learned rows {learned:.3f}, floors {floors.most:.2f}")
        hands.back(state.best)
        state.here, state.stage = state.best, "ended"

    def _iterate(self, count: int, *, annealed: bool) -> None:
        hands, state = self.hands, self.state
        for step in range(math.ceil(count / hands.cycle) * hands.cycle):
            rate = state.rate * (1 - step / count if annealed and step < count else 1.0)
            hands.iterate(rate if not annealed or step < count else 0.0)
            hands.mend(state.repairs if (step + 1) % hands.cycle == 0 else 0, rate)
        hands.settle()

    def _floors(self, *, whole: bool) -> Used:
        return self.hands.floors(whole=whole) if self.hands.probes.watched else Used(None, None)

    def _loss(self) -> tuple[float, float]:
        """What must fall, and the loss on the learned rows; nats per scored position."""
        probes, name = self.hands.probes, self.taught.name
        learned = self.hands.read(name, probes.ids(name, 0)).nats
        validated = self.hands.read("holdout", probes.ids("holdout", 0)).nats if self.taught.validates else learned
        return validated, learned
