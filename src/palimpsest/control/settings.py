"""What of a controlled run may be chosen. One set of values serves every model; none of them is a learning rate."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import ConfigDict, Field, model_validator

from palimpsest.chosen import Chosen
from palimpsest.loop.training import Training

LEAST_BUDGET = 240
OF_RETRAINING = 1.5  # times ten passes over the largest set


class Control(Chosen):
    """Who chooses the rate and the length of a run, and within which floors."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    kind: Literal["auto", "none"] = "auto"
    """"auto": the run finds its rate and its end; "none": a fixed rate and a planned length, as in the papers."""
    level: Literal["auto", "oracle", "shadow"] = "auto"
    """Where the level of "never seen" comes from: the --oracle, a "shadow" that saw only what stays, or the first of
    them that there is."""
    retain_loss: float = Field(default=0.05, gt=0, lt=1)
    """One unit of the floor of the retain set: this share of its ES (of its accuracy for images) is lost ..."""
    retain_nats: float = Field(default=0.05, gt=0)
    """... or so many nats per scored position are added, whichever is more."""
    general_ratio: float = Field(default=1.05, gt=1)
    """One unit of the floor of general text: its perplexity times this."""
    transient: float = Field(default=2.5, gt=0)
    """Units a round may use up and be accepted, read at the running rate, whose noise is in it."""
    final: float = Field(default=1.6, gt=0)
    """Units that what is saved may have used up, read after cooling; 1.6 are retain ES 0.92 and perplexity 1.08."""
    tolerance: float = Field(default=0.03, gt=0, lt=1)
    """The forget set is at its level when its mean MA and ES are at most this far above."""
    growth: float = Field(default=1.5, gt=1)
    """A round that moved little is followed by this many times its rate ..."""
    ceiling: float = Field(default=4.0, ge=1)
    """... up to so many times the first rate."""
    repairs: int = Field(default=2, ge=0, le=100)
    """Repair steps per iteration at the start."""
    most_repairs: int = Field(default=8, ge=0, le=100)
    """And at most."""
    cooling: int = Field(default=12, ge=1)
    """Repair steps of one cooling, annealed from the first rate to zero."""
    second_starts: int = Field(default=2, ge=0)
    """How often a method that stalls may start anew, with reference and masks of the weights at hand."""
    budget: int | None = Field(default=None, ge=1)
    """Iterations and repair steps in all; None = training.max_steps, else by the size of the sets."""
    epochs: float | None = Field(default=None, gt=0, le=1_000_000)
    """At most so many passes over the larger set; None = training.num_train_epochs where that was given."""
    read_rows: int = Field(default=64, ge=4)
    """Most forget or retain examples that are read at once; half as many of general text."""

    @model_validator(mode="after")
    def _floors_agree(self) -> Control:
        if self.final > self.transient:
            raise ValueError(
                f"final {self.final:g} is above transient {self.transient:g}: what is saved could not have been "
                "accepted on the way; give a final floor of at most the transient one"
            )
        if self.repairs > self.most_repairs:
            raise ValueError(
                f"repairs {self.repairs} is above most_repairs {self.most_repairs}; give at most that many"
            )
        return self


def budget_of(control: Control, training: Training, largest: int) -> int:
    """Iterations and repair steps in all: what was asked for, else one and a half times ten passes.

    Args:
        control: with what was asked for.
        training: of the run.
        largest: examples of its largest set.

    >>> budget_of(Control(), Training(batch_size=8), 47), budget_of(Control(), Training(batch_size=8), 4000)
    (240, 7500)
    """
    chosen = control.budget or training.max_steps
    if chosen is not None:
        return chosen
    passes = math.ceil(largest / training.batch_size)
    if control.epochs is not None:
        return math.ceil(control.epochs * passes)
    return max(LEAST_BUDGET, math.ceil(OF_RETRAINING * 10 * passes))
