"""How long a run at fixed rates may go on, and how it says why it ended: by its budget, or by what a check found."""

from __future__ import annotations

import math
from dataclasses import dataclass

from palimpsest.in_words import so_many
from palimpsest.loop.job import Job
from palimpsest.loop.legs import Leg
from palimpsest.loop.state import State
from palimpsest.loop.stopping import Check

EVERY_EXAMPLE_PASSES = "all examples pass"


@dataclass(frozen=True)
class Budget:
    """What ends a run when nothing else does.

    Attributes:
        steps: most of them, in this stage.
        epochs: most passes of it over the anchor; infinite where only the steps count.
        seconds: of the wall clock, of the whole run; None = any.
        whole: most steps of the whole run, where the stages have lengths of their own; None = any.
    """

    steps: int
    epochs: float = math.inf
    seconds: float | None = None
    whole: int | None = None

    @classmethod
    def of(cls, job: Job, leg: Leg, tested: str) -> Budget:
        """The budget of one leg of a job.

        Args:
            job: with its sets.
            leg: its training says how long, its anchor what an epoch goes over.
            tested: set that leaves the batches when it passes.
        """
        anchor, training = leg.anchor, leg.training
        # What is learned and what is forgotten are both gone over; the larger of the two says how long that takes.
        longest = max(len(job.sets[name]) for name in ({anchor, tested} if anchor == "learn" else {anchor}))
        ends_by_epochs = training.max_steps is None and longest == len(job.sets[anchor])
        epochs = training.num_train_epochs if ends_by_epochs else math.inf
        whole = job.training.max_steps
        arranged = job.arranged.get(anchor)
        batches = None if arranged is None else arranged.batches(job.sets[anchor].ids, training.batch_size)
        return cls(training.planned_steps(longest, batches), epochs, job.training.max_seconds, whole)

    def spent_before_epoch(self, state: State) -> str | None:
        """What forbids another epoch, in words, or None."""
        epochs = state.epoch - state.began_epoch
        return so_many(epochs, "epoch") if epochs >= self.epochs else None

    def spent_after_step(self, state: State) -> str | None:
        """What forbids another step, in words, or None."""
        if state.step - state.began >= self.steps:
            return so_many(state.step - state.began, "step")
        return self.spent_whole(state)

    def spent_whole(self, state: State) -> str | None:
        """What ends the run whatever its stages plan, in words, or None."""
        if self.whole is not None and state.step >= self.whole:
            return so_many(state.step, "step")
        if self.seconds is not None and state.seconds >= self.seconds:
            return so_many(self.seconds, "second")
        return None


def ended_by_check(state: State, check: Check) -> bool:
    """Does a check end the run? Satisfied, or for a reason that counts as a budget; noted where the run stands."""
    satisfied = check.satisfied if check.active else EVERY_EXAMPLE_PASSES
    state.stopped = satisfied or check.stop
    state.budget = None if satisfied else check.stop
    if not state.step:  # before the first one: there was nothing to do, or nothing that might be done
        state.unchanged = state.stopped
    return state.stopped is not None


def end_by_budget(state: State, budget: str, check: Check | None) -> None:
    """A budget ends the run; its last check, where it has any, says whether it was satisfied all the same."""
    if check is None:
        state.stopped = f"{budget} as planned"
    elif not ended_by_check(state, check):
        state.budget = budget
        state.stopped = f"budget: {budget}; {_waiting(len(check.active))} not pass yet"


def _waiting(count: int) -> str:
    return f"{so_many(count, 'example')} {'does' if count == 1 else 'do'}"
