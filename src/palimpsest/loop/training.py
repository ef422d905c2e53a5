"""Training options, the same for every method."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import ConfigDict, Field, field_validator

from palimpsest import derived
from palimpsest.chosen import Chosen
from palimpsest.data.sets.roles import ROLES
from palimpsest.errors import unknown

if TYPE_CHECKING:  # a plan is checked before torch is imported
    import torch
    from torch import nn

MOST = 1_000_000  # examples per step, and passes
Size = Annotated[int, Field(ge=1, le=MOST)]
Decay = Annotated[float, Field(ge=0, lt=1)]


class Training(Chosen):
    """Optimizer, length and budgets of a run. Names as in ``transformers.TrainingArguments`` where it has one."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    seed: int = Field(default=0, ge=0, lt=2**32)
    """Seeds every random choice of the run."""
    optimizer: Literal["adamw", "sgd"] = "adamw"
    """AdamW for language models; SGD with momentum is the custom for image classifiers."""
    learning_rate: float = Field(default=1e-4, gt=0, le=1e30)
    """Highest learning rate."""
    momentum: float = Field(default=0.9, ge=0, lt=1)
    """Of SGD."""
    lr_scheduler_type: Literal["constant", "linear", "cosine", "halving"] = "constant"
    """After warm-up: constant, linear or cosine to zero over the planned steps, or halved every ``halving_steps``."""
    halving_steps: int = Field(default=200, ge=1)
    """For "halving": steps between two halvings."""
    warmup_steps: int = Field(default=0, ge=0)
    """Steps of linear warm-up."""
    betas: tuple[Decay, Decay] = (0.9, 0.999)
    """AdamW's decay rates of the first and second moment."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Weight decay; decoupled in AdamW."""
    max_grad_norm: float = Field(default=1.0, ge=0)
    """Clip the gradient to this L2 norm; 0 = off."""
    batch_size: int = Field(default=8, ge=1, le=MOST)
    """Examples of the anchor set per optimizer step, over all micro-batches and processes."""
    side_batch_size: Size | dict[str, Size] | None = None
    """Examples per step of the other sets, one number or set name -> number; None = batch_size."""
    micro_batch_size: int | None = Field(default=None, ge=1)
    """Examples of the anchor set per forward pass; None = batch_size. Changes memory, not the result,
    but for models with batch normalisation, which looks at micro-batches one by one."""
    num_train_epochs: float = Field(default=10.0, gt=0, le=MOST)
    """Passes over the anchor set."""
    max_steps: int | None = Field(default=None, ge=1)
    """Optimizer iterations; where it is given it wins over ``num_train_epochs``."""
    max_seconds: float | None = Field(default=None, gt=0)
    """Budget of wall-clock time, counted over resumes; a run that it ends cannot be repeated bit by bit."""
    pack_by: Literal["subject"] | None = None
    """"subject": no step mixes the rows of two subjects, so that few recorded steps meet any one of them."""
    order: Literal["shuffled", "confident_first"] = "shuffled"
    """Of the forget set: "confident_first" goes over the rows that the model is surest of first, by its entropy."""
    checkpoint_steps: int = Field(default=50, ge=1)
    """Steps between two checkpoints."""

    @field_validator("side_batch_size")
    @classmethod
    def _sets_exist(cls, sizes: int | dict[str, int] | None) -> int | dict[str, int] | None:
        drawn = {*(role.name for role in ROLES.values() if role.trained_on), *derived.names()}
        for name in sizes if isinstance(sizes, dict) else ():
            if name not in drawn:
                raise ValueError(unknown("set", name, drawn))
        return sizes

    def new_optimizer(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """A fresh optimizer; nothing an earlier run remembered is in it. Of nothing that moves it has nothing to do."""
        import torch

        from palimpsest.loop.adamw import adamw

        rate, decay = self.learning_rate, self.weight_decay
        parameters = list(parameters) or [torch.nn.Parameter(torch.empty(0))]  # an edit of what takes no gradient
        if self.optimizer == "sgd":
            return torch.optim.SGD(parameters, lr=rate, momentum=self.momentum, weight_decay=decay)
        return adamw(parameters, lr=rate, betas=self.betas, weight_decay=decay)

    def drawn_from(self, set_name: str) -> int:
        """Examples per step of a set that is not the anchor.

        >>> Training(batch_size=8, side_batch_size={"replay": 4}).drawn_from("replay")
        4
        """
        side = self.side_batch_size
        if isinstance(side, dict):
            return side.get(set_name, self.batch_size)
        return self.batch_size if side is None else side

    def planned_steps(self, num_examples: int, batches: int | None = None) -> int:
        """Optimizer iterations if nothing else ends the run.

        Args:
            num_examples: of the longest set.
            batches: of one pass, where its batches are not full; None = as many as hold the examples.

        >>> Training(batch_size=8, num_train_epochs=2).planned_steps(20)
        6
        """
        full = math.ceil(num_examples / self.batch_size)
        by_epochs = math.ceil(self.num_train_epochs * max(full, batches or 0))
        return by_epochs if self.max_steps is None else self.max_steps

    def learning_rate_at(self, step: int, planned: int) -> float:
        """Learning rate of a step, counted from 0.

        >>> Training(learning_rate=1.0, lr_scheduler_type="linear").learning_rate_at(5, planned=10)
        0.5
        """
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / self.warmup_steps
        done = (step - self.warmup_steps) / max(1, planned - self.warmup_steps)
        factor = {
            "constant": 1.0,
            "linear": max(0.0, 1.0 - done),
            "cosine": 0.5 * (1.0 + math.cos(math.pi * min(1.0, done))),
            "halving": 0.5 ** ((step - self.warmup_steps) // self.halving_steps),
        }[self.lr_scheduler_type]
        return self.learning_rate * factor
