"""What a method must provide, and what it is given. The loop, the CLI and the batteries know methods only through this.

A method declares the sets it draws from and returns named terms; the loop owns the optimizer, devices, batches,
accumulation and checkpoints. Terms carry *sums*: the loop divides by the count over the whole step, so a result does
not depend on how a step is cut into micro-batches or spread over processes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from palimpsest.data.batch import Batch, ExampleSet, Predictions
from palimpsest.models.reference import Reference

Per = Literal["token", "example"]


__all__ = ["Config", "ExampleSet", "Method", "Per", "Phase", "Reference", "Term", "Terms"]


class Config(BaseModel):
    """Base of every option schema: frozen, unknown fields refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


@dataclass(frozen=True)
class Term:
    """One named part of a loss.

    Attributes:
        total: scalar, *summed* over the units of ``per`` in this batch.
        of: the set whose units are counted.
        per: the unit: scored tokens or examples of that set.
        weight: factor in the loss; negative for ascent.
    """

    total: Tensor
    of: str
    per: Per = "token"
    weight: float = 1.0


Terms = Mapping[str, Term]


@dataclass(frozen=True)
class Phase:
    """One optimizer step: which sets it draws a batch from. The first one is the anchor that counts epochs."""

    name: str
    sets: tuple[str, ...]


class Method:
    """One published way to learn, unlearn or both. Subclass it in ``methods/<name>.py`` and set ``METHOD``.

    Class attributes:
        Config: its options (``Config`` above).
        kind: "learn" or "unlearn".
        needs: sets it cannot work without; the first one is the anchor.
        uses: sets it draws from when they are given.
        reference_sets: sets on which it asks the reference model; empty when it needs none.
        paired: set -> anchor set whose examples it pairs by id, e.g. {"analogous": "forget"}.
        defaults: training options that differ from the general defaults, e.g. {"learning_rate": 1e-5}.
        starts_from: "model" (the model given) or "base" (the model before it learned anything, as retraining does).
    """

    Config: ClassVar[type[BaseModel]] = Config
    kind: ClassVar[Literal["learn", "unlearn"]] = "unlearn"
    needs: ClassVar[tuple[str, ...]] = ("forget",)
    uses: ClassVar[tuple[str, ...]] = ()
    reference_sets: ClassVar[frozenset[str]] = frozenset()
    paired: ClassVar[Mapping[str, str]] = {}
    defaults: ClassVar[Mapping[str, Any]] = {}
    starts_from: ClassVar[Literal["model", "base"]] = "model"

    def __init__(self, config: Any, reference: Reference | None = None) -> None:
        self.config = config
        self.reference = reference

    def prepare(self, model: nn.Module, sets: Mapping[str, ExampleSet]) -> nn.Module:
        """Wrap, freeze or build masks before the first step; default: nothing. Runs again before a resume."""
        self.sets = tuple(s for s in (*self.needs, *self.uses) if s in sets)
        return model

    def phases(self, step: int) -> Sequence[Phase]:
        """Phases of one iteration, one optimizer step each; default: one joint phase over all sets. Empty: no steps."""
        return (Phase("joint", self.sets),)

    def loss(self, model: nn.Module, batches: Mapping[str, Batch], phase: Phase) -> Terms:
        """Terms of one micro-batch: gather tensors, call the pure functions."""
        raise TypeError(f"{type(self).__name__} defines no loss")

    def transform(self, model: nn.Module, phase: Phase) -> None:
        """Change the accumulated gradients in place, before clipping; default: leave them."""

    def finish(self, model: nn.Module) -> nn.Module:
        """Unwrap what ``prepare`` wrapped; default: nothing."""
        return model

    def recall(self, model: nn.Module, batch: Batch) -> Predictions:
        """The reference model's predictions; for use inside ``loss``."""
        if self.reference is None:
            raise TypeError(f"{type(self).__name__} asked for a reference it did not declare in reference_sets")
        with torch.no_grad():
            return self.reference.predict(model, batch)
