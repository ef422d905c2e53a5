"""What a method asks of the loop, and gives it: stages of a run, phases of an iteration, terms of a loss."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor

Per = Literal["token", "example"]


@dataclass(frozen=True)
class Term:
    """One named part of a loss.

    Attributes:
        total: scalar, *summed* over the units of ``per`` in this batch.
        of: the set whose units are counted.
        per: the unit: scored tokens or examples of that set.
        weight: factor in the loss; negative for ascent.
        count: what the total is divided by, when only the forward pass knows it (the sum of weights made from the
            losses); summed over the micro-batches like ``total``. None = the units of ``per`` in the set.
    """

    total: Tensor
    of: str
    per: Per = "token"
    weight: float = 1.0
    count: Tensor | None = None


Terms = Mapping[str, Term]


@dataclass(frozen=True)
class Phase:
    """One step on one joint batch of some sets.

    Attributes:
        name: told to ``loss``, ``transform`` and ``update``.
        sets: a batch is drawn from each; with none there are no gradients, and only ``update`` is called.
        scale: for the method's own use, e.g. how far an ascent is annealed.
        max_grad_norm: clip to this L2 norm instead of the run's; 0 = off.
        again: take the ids that this iteration last drew from these sets, not new ones; where a phase of just these
            sets drew them, its very batches, augmentation included.
        update: False shows the gradients to ``transform`` and drops them.
        moves_statistics: False runs batch normalisation with its running statistics and leaves them alone, e.g. where
            a batch is of one set only.
    """

    name: str
    sets: tuple[str, ...]
    scale: float = 1.0
    max_grad_norm: float | None = None
    again: bool = False
    update: bool = True
    moves_statistics: bool = True


@dataclass(frozen=True)
class Stage:
    """A part of a run with an anchor, a length, a schedule and rates of its own (decision 0014).

    At fixed rates the stages follow each other, each with its own planned steps. A controlled run goes through the
    distinct ones in turn, an iteration of each, and leaves one called "repair" to the repair of the run.

    Attributes:
        name: told in the log.
        anchor: the set whose passes are its epochs; None = the first that the method draws from.
        epochs: passes over it; None = the run's.
        phases: of each of its iterations; None asks ``Method.phases``, with the step within the stage.
        training: training options that differ from the run's, e.g. {"batch_size": 4}.
        moves: regular expressions searched in parameter names: no other parameter moves; () = all that the scope lets.
        rates: regular expression -> factor of the learning rate; the first that is found in a name counts.
        fresh: begin with a new optimizer; False goes on with the moments of the stage before.
    """

    name: str = "run"
    anchor: str | None = None
    epochs: float | None = None
    phases: tuple[Phase, ...] | None = None
    training: Mapping[str, Any] = field(default_factory=dict)
    moves: tuple[str, ...] = ()
    rates: Mapping[str, float] = field(default_factory=dict)
    fresh: bool = True
