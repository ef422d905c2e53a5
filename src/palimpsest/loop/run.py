"""A run at fixed rates: edit, stages, stopping between epochs, checkpoints. One under control: ``control/drive.py``."""

from __future__ import annotations

import time

import torch

from palimpsest.errors import DivergedError
from palimpsest.in_words import so_many
from palimpsest.loop.budget import Budget, end_by_budget, ended_by_check
from palimpsest.loop.checkpoint import load_checkpoint, save_checkpoint, stage_in
from palimpsest.loop.editing import explain_edit, has_edit, make_edit
from palimpsest.loop.job import Ended, Job
from palimpsest.loop.legs import named_stages, takes_steps
from palimpsest.loop.machine import Machine
from palimpsest.loop.repair import Repairer
from palimpsest.loop.state import State
from palimpsest.loop.stopping import Check, Stopping

_FORGET = "forget"  # its examples leave the batches when they pass; those of the anchor where there is none


def run(job: Job) -> Ended:
    """Run a job to its end, going on from its checkpoint if there is one.

    The same job ends with the same bits on one CPU, whether it was interrupted or not. What it was at the end is in the
    model alone; the caller saves it.

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
        drawn = job.method.draws_from(job.sets)
        self.tested_name = _FORGET if _FORGET in drawn else self.machine.anchor_name
        self.checkpoint = job.folder / "checkpoint.safetensors"
        if self.checkpoint.exists():
            if self.is_staged:
                self.machine.enter(stage_in(self.checkpoint))  # first, for its optimizer
            state, own = load_checkpoint(
                self.checkpoint, job.model, self.machine.plain_optimizer, other=self._other_optimizer
            )
            self.machine.resume(state)
            self.machine.load_own(own)
        else:
            self.machine.log.keep(0)
        self.budget = Budget.of(job, self.machine.leg, self.tested_name)

    @property
    def is_staged(self) -> bool:
        """Are there several stages?"""
        return len(self.machine.legs) > 1

    @property
    def state(self) -> State:
        """Where the run stands."""
        return self.machine.state

    def run(self) -> Ended:
        state = self.state
        started = time.perf_counter() - state.seconds
        self._edit(started)
        short = None
        if not takes_steps(self.job.method, self.machine.legs, self.budget.steps):
            state.stopped, short = self.job.method.edit_ended()
        while state.stopped is None:
            self._step(started)
        self.machine.settle()
        self.machine.accelerator.end_training()
        unkept = None if state.unchanged else self.job.method.why_not_kept()
        return Ended(
            f"{state.stopped}, and {unkept}" if unkept else state.stopped,
            state.budget,
            state.step,
            state.seconds,
            state.check_seconds,
            state.tokens,
            short=unkept or short,
            unchanged=state.unchanged or unkept,
        )

    def _step(self, started: float) -> None:
        """An iteration, in an epoch that goes on or begins; what ends by it, and the checkpoint after it."""
        state = self.state
        try:
            if state.anchor.exhausted:
                self._begin_epoch()
            if state.stopped is None:
                self._iterate()
        except DivergedError as error:
            error.seconds, error.tokens = time.perf_counter() - started, state.tokens
            raise
        state.seconds = time.perf_counter() - started
        at_border = self._spend_budgets()
        asked = bool(self.job.stop.heard)
        # None at the end: the model itself is saved next, and whoever dies before that goes on from the last one.
        due = at_border or state.step % self.job.training.checkpoint_steps == 0
        if asked or (state.stopped is None and due):
            self._save()
        if asked:
            self.job.stop.heed()

    def _edit(self, started: float) -> None:
        """The edit of the method, unless it has none or it was made; stages start from a checkpoint of it."""
        state, machine = self.state, self.machine
        if state.edited or not has_edit(self.job.method):
            return
        drawn = {name: self.job.sets[name] for name in self.job.method.draws_from(self.job.sets)}
        made = make_edit(self.job.method, self.job.model, drawn, seed=self.job.training.seed)
        explain_edit(self.job.method, self.job.folder)
        state.edited, state.seconds = True, time.perf_counter() - started
        state.tokens += made.tokens
        machine.write(
            {"stage": "edit", "kind": "edit", "declared": made.declared, "changed": made.changed, **made.found}
        )
        if machine.legs:
            self._save()

    def _iterate(self) -> None:
        """One iteration, and the repair that follows it."""
        done = self.state.step - self.state.began
        rate = self.machine.leg.training.learning_rate_at(done, self.budget.steps)
        self.machine.iterate(rate, self.budget.steps)
        for _ in range(0 if self.job.repair is None else self.job.repair.steps):
            if self.repairer is not None and self.repairer.can:
                self.repairer.step(rate)

    @property
    def _other_optimizer(self) -> torch.optim.Optimizer | None:
        return None if self.repairer is None else self.repairer.optimizer

    def _begin_epoch(self) -> None:
        """Ask the stopping which examples go on; the rest of the epoch goes over these."""
        state = self.state
        spent = self.budget.spent_before_epoch(state)
        if spent is not None:
            self._end(spent)
            return
        active = state.anchor.ids
        if self.job.stopping is not None:
            check = self._check(self.job.stopping)
            if ended_by_check(state, check):
                return
            if self.tested_name == self.machine.anchor_name:
                active = check.active
            else:
                side = state.sides[self.tested_name]
                if tuple(check.active) != side.ids:  # else it goes on where it was: not all of it was drawn yet
                    state.sides[self.tested_name] = side.restart(check.active)
        state.anchor = state.anchor.restart(active)
        state.epoch += 1

    def _check(self, stopping: Stopping) -> Check:
        started = time.perf_counter()
        self.machine.settle()
        check = stopping.check(self.machine.model, self.state.step)
        self.state.check_seconds += time.perf_counter() - started
        self.machine.write({"kind": "check", "active": len(check.active), **check.scores})
        return check

    def _spend_budgets(self) -> bool:
        """End what has used up its budget: the run, or a stage that another one follows; has one just begun?"""
        state = self.state
        if state.stopped is not None:
            return False
        spent = self.budget.spent_after_step(state)
        if self._has_next and self.budget.spent_whole(state) is None:
            if spent is None and not (state.anchor.exhausted and self.budget.spent_before_epoch(state)):
                return False
            self.machine.begin_leg(state.stage + 1)
            self.budget = Budget.of(self.job, self.machine.leg, self.tested_name)
            return True
        if spent is not None:
            self._end(spent)
        return False

    @property
    def _has_next(self) -> bool:
        return self.state.stage + 1 < len(self.machine.legs)

    def _end(self, budget: str) -> None:
        """End by a budget, after one last check."""
        stopping = self.job.stopping
        if self.machine.names_stages:
            budget = self._in_stages(self.budget.spent_whole(self.state))
        end_by_budget(self.state, budget, None if stopping is None else self._check(stopping))

    def _in_stages(self, whole: str | None) -> str:
        """A budget of several stages in words: where the run was cut, or what it went through."""
        legs, state = self.machine.legs, self.state
        if whole is not None and self._has_next:
            return f"{whole}, in stage {state.stage + 1} of {len(legs)} ({self.machine.leg.stage.name})"
        steps, stages = so_many(state.step, "step"), so_many(len(legs), "stage")
        edit = "an edit, and " if state.edited else ""
        return f"{edit}{steps} in {stages} ({named_stages(leg.stage for leg in legs)})"

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
                own=machine.own_state(),
                other=self._other_optimizer,
            )
