"""The loop: draws batches, takes steps, asks the stopping, writes checkpoints. There is no other."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from palimpsest.contract import ExampleSet, Method, Phase
from palimpsest.data.batch import Batch
from palimpsest.errors import DivergedError, PlanError
from palimpsest.loop.checkpoint import load_checkpoint, save_checkpoint
from palimpsest.loop.log import RunLog
from palimpsest.loop.sampler import Stream
from palimpsest.loop.step import StepResult, micro_batches, take_step
from palimpsest.loop.stopping import Check, Stopping
from palimpsest.loop.training import Training
from palimpsest.models.scope import trainable
from palimpsest.updates.own_step import OptimizerStep

EVERY_EXAMPLE_PASSES = "all examples pass"
FORGET = "forget"  # its examples leave the batches when they pass; those of the anchor where there is none


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
        progress: called with (step, planned steps, what the last step did).
        trackers: names for Accelerate: "tensorboard", "trackio", "wandb".
        at_start: digest of every saved tensor before the method touched the model; what a run changed is seen by it.
    """

    method: Method
    model: Any
    sets: Mapping[str, ExampleSet]
    training: Training
    folder: Path
    pairs: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    stopping: Stopping | None = None
    progress: Callable[[int, int, Mapping[str, float]], None] | None = None
    trackers: Sequence[str] = ()
    at_start: Mapping[str, str] = field(default_factory=dict)


@dataclass
class State:
    """Where a run stands; with the weights, all that a checkpoint needs."""

    anchor: Stream
    sides: dict[str, Stream]
    step: int = 0
    epoch: int = 0
    tokens: int = 0
    seconds: float = 0.0
    check_seconds: float = 0.0
    log_rows: int = 0
    stopped: str | None = None
    budget: str | None = None
    unchanged: str | None = None

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> State:
        """Inverse of ``to_json``."""
        return cls(
            **{
                **value,
                "anchor": _stream(value["anchor"]),
                "sides": {name: _stream(stream) for name, stream in value["sides"].items()},
            }
        )


def _stream(value: Mapping[str, Any]) -> Stream:
    return Stream(**{**value, "ids": tuple(value["ids"])})


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
        unchanged: why nothing had to change, where a run may leave the model as it was; else that is an error.
    """

    stopped: str
    budget: str | None
    steps: int
    seconds: float
    check_seconds: float
    tokens: int
    unchanged: str | None = None


def run(job: Job) -> Ended:
    """Run a job to its end, going on from its checkpoint if there is one.

    The same job ends with the same bits on one CPU, whether it was interrupted or not.

    Raises:
        DivergedError: a loss or gradient is not finite.
        PlanError: the method draws from a set that was not given.
    """
    return _Loop(job).run()


class _Loop:
    """One run in progress."""

    def __init__(self, job: Job) -> None:
        self.job = job
        training = job.training
        drawn = job.method.draws_from(job.sets)
        self.anchor_name = drawn[0]
        self.tested_name = FORGET if FORGET in drawn else self.anchor_name
        anchor_ids = job.sets[self.anchor_name].ids
        self.planned = training.planned_steps(len(anchor_ids))
        self.drawn: dict[str, list[str]] = {}
        self.built: dict[tuple[str, ...], list[dict[str, Batch]]] = {}
        sides = {n: Stream(n, job.sets[n].ids, training.seed) for n in job.sets if n not in job.pairs}
        self.state = State(Stream(self.anchor_name, anchor_ids, training.seed, cursor=len(anchor_ids)), sides)
        self.accelerator = _accelerator(job)
        optimizer = training.new_optimizer(trainable(job.model).values())
        self.model, self.optimizer = self.accelerator.prepare(job.model, optimizer)
        self.log = RunLog(job.folder / "metrics.jsonl")
        self.checkpoint = job.folder / "checkpoint.safetensors"
        if self.checkpoint.exists():
            state, own = load_checkpoint(self.checkpoint, job.model, self._plain_optimizer())
            self.state = State.from_json(state)
            job.method.load_state(own)
        self.log.keep(self.state.log_rows)

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
            if state.stopped is not None or state.step % self.job.training.checkpoint_steps == 0:
                self._save()
        self.job.method.settle(self.job.model)
        self.accelerator.end_training()
        return Ended(
            state.stopped,
            state.budget,
            state.step,
            state.seconds,
            state.check_seconds,
            state.tokens,
            state.unchanged,
        )

    def _begin_epoch(self) -> None:
        """Ask the stopping which examples go on; the rest of the epoch goes over these."""
        state = self.state
        if state.epoch >= self.job.training.num_train_epochs:
            self._end_by_budget(f"{state.epoch} epochs")
            return
        active = state.anchor.ids
        if self.job.stopping is not None:
            check = self._check(self.job.stopping)
            if self._ended_by(check):
                return
            if self.tested_name == self.anchor_name:
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

    def _iterate(self) -> None:
        """All phases of one iteration, one optimizer step each."""
        state, training = self.state, self.job.training
        phases = self.job.method.phases(state.step, self.planned)
        learning_rate = training.learning_rate_at(state.step, self.planned)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        anchor_ids: list[str] = []
        if any(self.anchor_name in phase.sets for phase in phases):
            anchor_ids, state.anchor = state.anchor.draw(training.batch_size)
        self.model.train()
        self.built.clear()
        for phase in phases:
            if not phase.sets:
                self.job.method.update(self.job.model, phase, OptimizerStep(self.optimizer))
                continue
            result = self._take(phase, anchor_ids)
            state.tokens += result.tokens
            self._log_step(phase, result, learning_rate)
        numbers = self.job.method.diagnostics(learning_rate)
        if numbers:
            self._log({"kind": "diagnostics", **numbers})
        state.step += 1

    def _take(self, phase: Phase, anchor_ids: list[str]) -> StepResult:
        training = self.job.training
        if not phase.again:
            self.drawn |= {name: self._draw(name, anchor_ids) for name in phase.sets}
        drawn = {name: self.drawn[name] for name in phase.sets}
        parts = self.built.get(phase.sets) if phase.again else None  # what is augmented at random must not be so anew
        if parts is None:
            parts = micro_batches(self.job.sets, drawn, self.anchor_name, training.micro_batch_size)
        self.built[phase.sets] = parts
        return take_step(
            self.accelerator,
            self.job.method,
            self.model,
            self.optimizer,
            parts,
            phase=phase,
            max_grad_norm=training.max_grad_norm,
        )

    def _draw(self, name: str, anchor_ids: list[str]) -> list[str]:
        if name == self.anchor_name:
            return anchor_ids
        if name in self.job.pairs:
            return [self.job.pairs[name][i] for i in anchor_ids]
        if name not in self.state.sides:
            raise PlanError(f"method draws from the set {name!r}, which was not given")
        drawn, self.state.sides[name] = self.state.sides[name].draw_around(self.job.training.drawn_from(name))
        return drawn

    def _check(self, stopping: Stopping) -> Check:
        started = time.perf_counter()
        self.job.method.settle(self.job.model)
        check = stopping.check(self.model, self.state.step)
        self.state.check_seconds += time.perf_counter() - started
        self._log({"kind": "check", "active": len(check.active), **check.scores})
        return check

    def _spend_budgets(self) -> None:
        state, training = self.state, self.job.training
        if state.stopped is not None:
            return
        if state.step >= self.planned:
            self._end_by_budget(f"{state.step} steps")
        elif training.max_seconds is not None and state.seconds >= training.max_seconds:
            self._end_by_budget(f"{training.max_seconds:g} seconds")

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
        state.stopped = f"budget: {budget}; {len(check.active)} examples do not pass yet"

    def _log_step(self, phase: Phase, result: StepResult, learning_rate: float) -> None:
        values = {"loss": result.loss, "grad_norm": result.grad_norm, "learning_rate": learning_rate, **result.terms}
        self._log({"kind": "step", "phase": phase.name, **values})
        self.accelerator.log(values, step=self.state.step)
        if self.job.progress is not None:
            self.job.progress(self.state.step + 1, self.planned, values)

    def _log(self, values: Mapping[str, Any]) -> None:
        state = self.state
        self.log.append({"step": state.step, "epoch": state.epoch, "seconds": round(state.seconds, 3), **values})
        state.log_rows = self.log.count

    def _save(self) -> None:
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            self.log.flush()
            save_checkpoint(
                self.checkpoint,
                self.job.model,
                self._plain_optimizer(),
                state=self.state.to_json(),
                own=self.job.method.state(),
            )

    def _plain_optimizer(self) -> torch.optim.Optimizer:
        optimizer: torch.optim.Optimizer = getattr(self.optimizer, "optimizer", self.optimizer)
        return optimizer


def _accelerator(job: Job) -> Accelerator:
    cuda = torch.cuda.is_available()
    accelerator = Accelerator(
        cpu=not torch.accelerator.is_available(),
        mixed_precision="bf16" if cuda and torch.cuda.is_bf16_supported() else "no",
        log_with=list(job.trackers) or None,
        project_dir=str(job.folder),
    )
    if accelerator.num_processes > 1:
        raise PlanError(
            f"{accelerator.num_processes} processes: this version trains in one process; run it without a launcher"
        )
    if job.trackers:
        accelerator.init_trackers("palimpsest")
    return accelerator
