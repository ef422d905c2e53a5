"""Repair: steps that bring what must stay back to the model before. A rule of the run, whatever the method.

    L = mean KL(model before ‖ model) over retain positions + the same over replay positions

with an optimizer of its own (AdamW, betas 0.9 and 0.98, gradients clipped to norm 1), so that the method's moments stay
the method's. The model before is asked through ``models/reference.py``: cached, or the adapter switched off.

A class of images that is to be forgotten whole is taken out of p(model before): a model retrained without it never says
it, and what is left of it in the soft answers to other images would bring it back.

The plain loss in the place of the divergence breaks the floors by itself: it learns retain by heart (docs/log.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from palimpsest.contract import Config, ExampleSet, Method, Phase, Term, Terms
from palimpsest.data.encode.batch import Batch
from palimpsest.loop.adamw import adamw
from palimpsest.loop.job import Repair
from palimpsest.loop.legs import only_moving
from palimpsest.loop.machine import Machine, set_rate
from palimpsest.loop.step import StepResult, micro_batches, take_step
from palimpsest.models.divergence import kl_divergence
from palimpsest.models.scope import trainable

BETAS = (0.9, 0.98)
MAX_GRAD_NORM = 1.0
NEVER = -1e4  # a logit whose probability is 0 in fp32, and finite, so that 0 · log 0 is 0


class Keeping(Method):
    """The loss of repair, in the shape that the loop takes steps of.

    Attributes:
        silent: outputs that are taken out of what the model before said.
    """

    silent: tuple[int, ...] = ()

    def loss(self, model: nn.Module, batches: Mapping[str, Batch], phase: Phase) -> Terms:
        """The divergence from the model before on each set, token means."""
        return {name: Term(self.divergence(model, batch), of=name) for name, batch in batches.items()}

    def divergence(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """Summed over the scored positions of a batch, nats."""
        before_SV = self.recall(model, batch).logits_SV
        if self.silent:
            before_SV = before_SV.index_fill(1, torch.tensor(self.silent, device=before_SV.device), NEVER)
        return kl_divergence(before_SV, batch.predict(model).logits_SV).sum()


class Repairer:
    """Takes the repair steps of one run.

    Attributes:
        optimizer: its own; the method's is left alone.
        replay_share: share of a step's examples that replay gives.
    """

    def __init__(self, machine: Machine, repair: Repair) -> None:
        self.optimizer = adamw(trainable(machine.job.model).values(), lr=1e-3, betas=BETAS, weight_decay=0.0)
        self.replay_share = 0.25
        self._machine = machine
        self._repair = repair
        self._rows = repair.rows
        self._method = Keeping(Config(), repair.reference)
        self._method.silent = repair.silent
        self._phase = Phase("repair", tuple(repair.sets), moves_statistics=False)
        for name, examples in repair.sets.items():
            machine.add_side(_stream(name), examples)

    @property
    def can(self) -> bool:
        """Is there anything to repair on?"""
        return bool(self._repair.sets)

    def step(self, learning_rate: float) -> StepResult:
        """One step at this rate."""
        machine = self._machine
        set_rate(self.optimizer, learning_rate)
        machine.rules.reopen(machine.job.model)
        machine.model.train()
        size = machine.job.training.micro_batch_size
        parts = micro_batches(self._repair.sets, self._draw(), next(iter(self._repair.sets)), size)
        with only_moving(machine.job.model, machine.repair_moves):
            result = take_step(
                machine.accelerator,
                self._method,
                machine.model,
                self.optimizer,
                parts,
                phase=self._phase,
                max_grad_norm=MAX_GRAD_NORM,
                rules=machine.rules.of_the_run(),
            )
        machine.state.tokens += result.tokens
        machine.write(
            {"kind": "step", "phase": "repair", "loss": result.loss, "learning_rate": learning_rate, **result.terms}
        )
        return result

    def _draw(self) -> dict[str, Any]:
        shares = {"replay": self.replay_share, "retain": 1 - self.replay_share}
        sets = self._repair.sets
        wanted = {name: round(self._rows * (shares[name] if len(sets) > 1 else 1.0)) for name in sets}
        return {name: self._machine.draw_side(_stream(name), _most(wanted[name], sets[name])) for name in sets}


def _stream(name: str) -> str:
    """The repair draws from streams of its own, so that the method's stay where they are."""
    return f"repair/{name}"


def _most(count: int, examples: ExampleSet) -> int:
    return max(1, min(count, len(examples)))
