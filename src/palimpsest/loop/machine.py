"""Draws batches and takes the steps of a method: what a run at fixed rates and a run under control share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from torch import Tensor

from palimpsest.contract import ExampleSet, Method, Phase, Stage
from palimpsest.data.encode.batch import Batch
from palimpsest.errors import ModelError, PlanError
from palimpsest.loop.job import Job
from palimpsest.loop.legs import FACTOR, Leg, in_turn, legs_of, only_moving, regroup
from palimpsest.loop.log import RunLog
from palimpsest.loop.sampler import IdStream
from palimpsest.loop.state import State
from palimpsest.loop.step import StepResult, micro_batches, take_step
from palimpsest.models.scope import trainable
from palimpsest.rules.own_step import OptimizerStep
from palimpsest.rules.rule import Setting
from palimpsest.rules.rule_stack import RuleStack, without_rules


class Machine:
    """One run's model, optimizer, streams and log.

    Attributes:
        job: what was asked.
        method: that of the job, or what a second start built anew.
        rules: around its steps.
        state: where the run stands.
        model: as Accelerate prepared it; ``job.model`` is the plain one.
        legs: the stages, resolved; of a run under control those that it goes through in turn.
        leg: the one at hand.
    """

    def __init__(self, job: Job, *, bounded: bool = False) -> None:
        """A machine at its beginning.

        Args:
            job: what to do.
            bounded: no example twice in a batch; else small sets are gone round.
        """
        self.job = job
        self._bounded = bounded
        self.method: Method = job.method
        self.rules = _own_rules(job) if job.rules is None else job.rules  # may freeze: the optimizer comes after them
        legs = legs_of(job.method, job.model, job.sets, job.training)
        self.legs = in_turn(legs) if bounded else legs
        self.leg = self.legs[0] if self.legs else Leg(Stage(), job.method.draws_from(job.sets)[0], job.training)
        anchor_ids = job.sets[self.leg.anchor].ids
        arranged = job.arranged.get(self.leg.anchor)
        anchor = IdStream(self.leg.anchor, anchor_ids, job.training.seed, cursor=len(anchor_ids), arranged=arranged)
        self.state = State(anchor, {})
        self._beginning = State(anchor, {})
        for name in job.sets:
            if name not in job.pairs and name != self.anchor_name:
                self.add_side(name, job.sets[name])
        self.accelerator = _accelerator(job)
        optimizer = self.leg.training.new_optimizer(trainable(job.model).values())
        self.model, self.optimizer = self.accelerator.prepare(job.model, optimizer)
        regroup(optimizer, job.model, self.leg)
        self.log = RunLog(job.folder / "metrics.jsonl")
        self._drawn: dict[str, list[str]] = {}
        self._built: dict[tuple[str, ...], list[dict[str, Batch]]] = {}

    @property
    def plain_optimizer(self) -> torch.optim.Optimizer:
        """The optimizer itself, without Accelerate around it."""
        optimizer: torch.optim.Optimizer = getattr(self.optimizer, "optimizer", self.optimizer)
        return optimizer

    def start_anew(self, method: Method) -> None:
        """Go on with a method that was built anew; the rules of the run stay as they are."""
        self.method = method
        self.rules.renew(method.rules(), self.job.model, self.job.sets)

    def own_state(self) -> dict[str, Tensor]:
        """Tensors of the method and of the rules, for a checkpoint."""
        return {**self.method.state(), **self.rules.state()}

    def load_own(self, state: Mapping[str, Tensor]) -> None:
        """Inverse of ``own_state``."""
        self.method.load_state(without_rules(state))
        self.rules.load_state(state)

    def settle(self) -> None:
        """Bring the weights to what would be saved now."""
        self.method.settle(self.job.model)
        self.rules.settle(self.job.model)

    @property
    def anchor_name(self) -> str:
        """The set whose passes are the epochs."""
        return self.state.anchor.name

    @property
    def repair_moves(self) -> tuple[str, ...]:
        """What repair may move: what the leg at hand may, under control what any of them may."""
        legs = self.legs if self._bounded and self.legs else (self.leg,)
        return tuple(p for leg in legs for p in leg.stage.moves) if all(leg.stage.moves for leg in legs) else ()

    def enter(self, number: int) -> None:
        """Go over to a leg: its anchor, its options, its rates; with a new optimizer where it asks for one."""
        self.state.stage, self.leg = number, self.legs[number]
        self.state.anchor_on(self.leg.anchor)
        if not self._bounded and (self.leg.stage.fresh or not self.leg.can_use(self.plain_optimizer)):
            fresh = self.leg.training.new_optimizer(trainable(self.job.model).values())
            if isinstance(self.optimizer, AcceleratedOptimizer):
                self.optimizer.optimizer = fresh  # a second one would keep the first in the accelerator's memory
            else:
                self.optimizer = fresh
        regroup(self.plain_optimizer, self.job.model, self.leg)

    def begin_leg(self, number: int) -> None:
        """Enter a leg at its beginning: its anchor is gone over anew."""
        self.enter(number)
        state = self.state
        state.began, state.began_epoch = state.step, state.epoch
        state.anchor = replace(state.anchor, cursor=len(state.anchor.ids))

    def take_turn(self) -> None:
        """Under control: enter the leg whose turn this iteration is; a function of its number alone."""
        if len(self.legs) > 1:
            self.enter(self.state.step // max(1, self.method.cycle) % len(self.legs))

    def add_side(self, name: str, examples: ExampleSet) -> None:
        """A stream beside the anchor's, at its beginning."""
        stream = IdStream(name, examples.ids, self.job.training.seed, arranged=self.job.arranged.get(name))
        self.state.sides[name] = self._beginning.sides[name] = stream

    def standing(self) -> dict[str, Any]:
        """Where the run stands, as JSON."""
        return self.state.to_json(self._beginning)

    def resume(self, standing: Mapping[str, Any]) -> None:
        """Go on from what ``standing`` said.

        Raises:
            ModelError: another job, or another version of the code, said it.
        """
        try:
            self.state = State.from_json(standing, self._beginning)
        except (KeyError, TypeError, AttributeError) as error:
            raise ModelError(
                f"the unfinished run in {self.job.folder} was written by another version of palimpsest ({error}); "
                f"`palimpsest clean {self.job.folder} --yes` removes it, to start the run again"
            ) from error
        if self.legs:
            self.leg = self.legs[self.state.stage]
        self.log.keep(self.state.log_rows)

    def iterate(self, learning_rate: float, planned: int) -> StepResult | None:
        """All phases of one iteration, one optimizer step each; what the last of them did.

        Args:
            learning_rate: of every phase of it.
            planned: told to the method: iterations if nothing else ends the run.

        Raises:
            DivergedError: a loss or gradient is not finite.
        """
        with only_moving(self.job.model, self.leg.stage.moves):
            return self._go_through(self._phases(planned), learning_rate, planned)

    def _phases(self, planned: int) -> Sequence[Phase]:
        own = self.leg.stage.phases
        return self.method.phases(self.state.step - self.state.began, planned) if own is None else own

    def _go_through(self, phases: Sequence[Phase], learning_rate: float, planned: int) -> StepResult | None:
        set_rate(self.optimizer, learning_rate)
        anchor_ids: list[str] = []
        if any(self.anchor_name in phase.sets for phase in phases):
            anchor_ids, self.state.anchor = self.state.anchor.draw(self.leg.training.batch_size)
        self.rules.reopen(self.job.model)
        self.model.train()
        self._built.clear()
        result = None
        for phase in phases:
            if not phase.sets:
                with self.rules.around(self.job.model, phase, {}):
                    step = self.rules.stepping(phase, OptimizerStep(self.optimizer))
                    self.method.update(self.job.model, phase, step)
                continue
            result = self._take(phase, anchor_ids)
            self.state.tokens += result.tokens
            self.log_step(phase.name, result, learning_rate, planned)
        numbers = {**self.method.diagnostics(learning_rate), **self.rules.diagnostics(learning_rate)}
        if numbers:
            self.write({"kind": "diagnostics", **numbers})
        self.state.step += 1
        return result

    def _take(self, phase: Phase, anchor_ids: list[str]) -> StepResult:
        training = self.leg.training
        if not phase.again:
            self._drawn |= {name: self._draw(name, anchor_ids) for name in phase.sets}
        drawn = {name: self._drawn[name] for name in phase.sets}
        parts = self._built.get(phase.sets) if phase.again else None  # what is augmented at random must not be so anew
        if parts is None:
            parts = micro_batches(self.job.sets, drawn, self.anchor_name, training.micro_batch_size)
        self._built[phase.sets] = parts
        return take_step(
            self.accelerator,
            self.method,
            self.model,
            self.optimizer,
            parts,
            phase=phase,
            max_grad_norm=training.max_grad_norm,
            rules=self.rules,
        )

    def _draw(self, name: str, anchor_ids: list[str]) -> list[str]:
        if name == self.anchor_name:
            return anchor_ids
        if name in self.job.pairs:
            self._check_paired(name)
            return [self.job.pairs[name][i] for i in anchor_ids]
        if name not in self.state.sides:
            raise PlanError(f"method draws from the set {name!r}, which was not given")
        wanted = self.leg.training.drawn_from(name)
        return self.draw_side(name, min(wanted, len(self.state.sides[name].ids)) if self._bounded else wanted)

    def _check_paired(self, name: str) -> None:
        of = self.method.paired.get(name, self.anchor_name)
        if of != self.anchor_name:
            raise PlanError(
                f"stage {self.leg.stage.name!r} goes over {self.anchor_name!r} and draws {name!r}, whose examples are "
                f"partners of those of {of!r}; give it the anchor {of!r}"
            )

    def draw_side(self, name: str, count: int) -> list[str]:
        """The next ids of a set that is not the anchor."""
        drawn, self.state.sides[name] = self.state.sides[name].draw_around(count)
        return drawn

    def log_step(self, phase: str, result: StepResult, learning_rate: float, planned: int) -> None:
        """One row for one optimizer step, and word to whoever watches."""
        values = {"loss": result.loss, "grad_norm": result.grad_norm, "learning_rate": learning_rate, **result.terms}
        self.write({"kind": "step", "phase": phase, **values})
        self.accelerator.log(values, step=self.state.step)
        if self.job.progress is not None:
            self.job.progress(self.state.step - self.state.began + 1, planned, {**values, **self._where()})

    def write(self, values: Mapping[str, Any]) -> None:
        """One row of the log, with where the run stands."""
        state = self.state
        where = {"step": state.step, "epoch": state.epoch, "seconds": round(state.seconds, 3), **self._where()}
        self.log.append({**where, **values})
        state.log_rows = self.log.count

    def _where(self) -> dict[str, str]:
        return {"stage": self.leg.stage.name} if self.names_stages else {}

    @property
    def names_stages(self) -> bool:
        """Is there more to a run than one stage?"""
        return len(self.legs) > 1 or (bool(self.legs) and self.state.edited)


def set_rate(optimizer: Any, learning_rate: float) -> None:
    """Give every group of an optimizer this learning rate, times its own factor where it has one."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate * group.get(FACTOR, 1.0)


def _own_rules(job: Job) -> RuleStack:
    """The rules of the job's method, for who takes steps without the engine."""
    rules = RuleStack(job.method.rules(), setting=Setting(job.folder, job.training.seed))
    rules.prepare(job.model, job.sets, job.sets)
    return rules


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
