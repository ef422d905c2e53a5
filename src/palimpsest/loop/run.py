"""A run at fixed rates: steps, the stopping between epochs, checkpoints. One under control is ``control/drive.py``."""

from __future__ import annotations

import math
import time

import torch

from palimpsest.errors import DivergedError
from palimpsest.in_words import so_many
from palimpsest.loop.checkpoint import load_checkpoint, save_checkpoint
from palimpsest.loop.job import Ended, Job
from palimpsest.loop.machine import Machine
from palimpsest.loop.repair import Repairer
from palimpsest.loop.state import State
from palimpsest.loop.stopping import Check, Stopping

EVERY_EXAMPLE_PASSES = "all examples pass"
_FORGET = "forget"  # its examples leave the batches when they pass; those of the anchor where there is none


def run(job: Job) -> Ended:
    """Run a job to its end, going on from its checkpoint if there is one.

    The same job ends with the same bits on one CPU, whether it was interrupted or not.

    Raises:
        DivergedError: a loss or gradient is not finite.
        PlanError: the method draws from a set that was not given.
        KeyboardInterrupt: the job was asked to stop; a checkpoint holds every step that was taken.
    """
    return _Loop(job).run()


class _Loop:
    """One run in progress."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.machine = Machine(job)
        self.repairer = None if job.repair is None else Repairer(self.machine, job.repair)
        anchor = self.machine.anchor_name
        drawn = job.method.draws_from(job.sets)
        self.tested_name = _FORGET if _FORGET in drawn else anchor
        # What is learned and what is forgotten are both gone over; the larger of the two says how long that takes.
        longest = max(len(job.sets[name]) for name in ({anchor, self.tested_name} if anchor == "learn" else {anchor}))
        self.planned = job.training.planned_steps(longest)
        ends_by_epochs = job.training.max_steps is None and longest == len(job.sets[anchor])
        self.epochs = job.training.num_train_epochs if ends_by_epochs else math.inf
        self.checkpoint = job.folder / "checkpoint.safetensors"
        if self.checkpoint.exists():
            state, own = load_checkpoint(
                self.checkpoint, job.model, self.machine.plain_optimizer, other=self._other_optimizer
            )
            self.machine.resume(state)
            job.method.load_state(own)
        else:
            self.machine.log.keep(0)

    @property
    def state(self) -> State:
        """Where the run stands."""
        return self.machine.state

    def run(self) -> Ended:
        state = self.state
        if not self.job.method.phases(0, self.planned):
            state.stopped = "edited without steps"
        started = time.perf_counter() - state.seconds
        while state.stopped is None:
            try:
                if state.anchor.exhausted:
                    self._begin_epoch()
                if state.stopped is None:
                    self._iterate()
            except DivergedError as error:
                error.seconds, error.tokens = time.perf_counter() - started, state.tokens
                raise
            state.seconds = time.perf_counter() - started
            self._spend_budgets()
            asked = bool(self.job.stop.heard)
            if asked or state.stopped is not None or state.step % self.job.training.checkpoint_steps == 0:
                self._save()
            if asked:
                self.job.stop.heed()
        self.job.method.settle(self.job.model)
        self.machine.accelerator.end_training()
        return Ended(
            state.stopped,
            state.budget,
            state.step,
            state.seconds,
            state.check_seconds,
            state.tokens,
            unchanged=state.unchanged,
        )

    def _iterate(self) -> None:
        """One iteration, and the repair that follows it."""
        rate = self.job.training.learning_rate_at(self.state.step, self.planned)
        self.machine.iterate(rate, self.planned)
        for _ in range(0 if self.job.repair is None else self.job.repair.steps):
            if self.repairer is not None and self.repairer.can:
                self.repairer.step(rate)

    @property
    def _other_optimizer(self) -> torch.optim.Optimizer | None:
        return None if self.repairer is None else self.repairer.optimizer

    def _begin_epoch(self) -> None:
        """Ask the stopping which examples go on; the rest of the epoch goes over these."""
        state = self.state
        if state.epoch >= self.epochs:
            self._end_by_budget(so_many(state.epoch, "epoch"))
            return
        active = state.anchor.ids
        if self.job.stopping is not None:
            check = self._check(self.job.stopping)
            if self._ended_by(check):
                return
            if self.tested_name == self.machine.anchor_name:
                active = check.active
            else:
                side = state.sides[self.tested_name]
                if tuple(check.active) != side.ids:  # else it goes on where it was: not all of it was drawn yet
                    state.sides[self.tested_name] = side.restart(check.active)
        state.anchor = state.anchor.restart(active)
        state.epoch += 1

    def _ended_by(self, check: Check) -> bool:
        """Does a check end the run? Satisfied, or for a reason that counts as a budget."""
        satisfied = check.satisfied if check.active else EVERY_EXAMPLE_PASSES
        self.state.stopped = satisfied or check.stop
        self.state.budget = None if satisfied else check.stop
        if not self.state.step:  # before the first one: there was nothing to do, or nothing that might be done
            self.state.unchanged = self.state.stopped
        return self.state.stopped is not None

    def _check(self, stopping: Stopping) -> Check:
        started = time.perf_counter()
        self.job.method.settle(self.job.model)
        check = stopping.check(self.machine.model, self.state.step)
        self.state.check_seconds += time.perf_counter() - started
        self.machine.write({"kind": "check", "active": len(check.active), **check.scores})
        return check

    def _spend_budgets(self) -> None:
        state, training = self.state, self.job.training
        if state.stopped is not None:
            return
        if state.step >= self.planned:
            self._end_by_budget(so_many(state.step, "step"))
        elif training.max_seconds is not None and state.seconds >= training.max_seconds:
            self._end_by_budget(so_many(training.max_seconds, "second"))

    def _end_by_budget(self, budget: str) -> None:
        """A budget ends the run; one last check says whether the stopping was satisfied all the same."""
        state = self.state
        if self.job.stopping is None:
            state.stopped = f"{budget} as planned"
            return
        check = self._check(self.job.stopping)
        if self._ended_by(check):
            return
        state.budget = budget
        state.stopped = f"budget: {budget}; {_waiting(len(check.active))} not pass yet"

    def _save(self) -> None:
        machine = self.machine
        machine.accelerator.wait_for_everyone()
        if machine.accelerator.is_main_process:
            machine.log.flush()
            save_checkpoint(
                self.checkpoint,
                self.job.model,
                machine.plain_optimizer,
                state=machine.standing(),
                own=self.job.method.state(),
                other=self._other_optimizer,
            )


def _waiting(count: int) -> str:
    return f"{so_many(count, 'example')} {'does' if count == 1 else 'do'}"
