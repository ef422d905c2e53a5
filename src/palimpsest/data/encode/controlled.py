"""How controls act: between what a model says and what an objective is shown of it.

With z the logits at a scored position, y its target, n_i the summed negative log-likelihood of example i:

    temperature   z / T
    lowest        of each example the ceil(q · positions) with the lowest −log p(y)
    cap           n_i >= delta: the example's logits are shown without a gradient, so that it moves no weight

Which positions and which examples is decided by what the model itself says, at temperature 1 and over all positions:
the three do not change each other. The choice belongs to a batch: the first network that is asked makes it, which is
the one that learns, and the reference is read at the same positions and the same temperature.

Departs from the papers: the mean stays over all examples of a step, so that the step fades as they pass; "Unlearning
with Control" (risk capping) divides by those below the cap, and its loss, mean (delta − n_i), differs by the constant
delta, which has no gradient. What a capped example's term adds to the logged loss is its value, not the cap.

Shape legend: B examples, S scored positions, K kept ones, V vocabulary (or classes).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from palimpsest.data.encode.batch import Batch, ExampleSet, Predictions, predict_together
from palimpsest.data.sets.controls import Controls

_ROUNDING = 1e-9  # 0.1 · 30 is 3.0000000000000004 and means three


class Pick(NamedTuple):
    """What of a batch an objective is shown.

    Attributes:
        position_K: scored positions that count, in order; None = all.
        stopped_B: examples that move nothing any more; None = none.
    """

    position_K: Int[Tensor, "K"] | None
    stopped_B: Bool[Tensor, "B"] | None

    @property
    def is_all(self) -> bool:
        """Is everything shown, and free to move?"""
        return self.position_K is None and self.stopped_B is None

    def of(self, values_S: Tensor, owner_S: Int[Tensor, "S"]) -> Tensor:
        """Values at the positions that count, (S, ...) -> (K, ...); those of stopped examples without a gradient."""
        kept = values_S if self.position_K is None else values_S[self.position_K]
        if self.stopped_B is None:
            return kept
        stopped_K = self.stopped_B[self.integers(owner_S)].reshape(-1, *(1,) * (kept.dim() - 1))
        return torch.where(stopped_K, kept.detach(), kept)

    def integers(self, index_S: Int[Tensor, "S"]) -> Int[Tensor, "K"]:
        """Whole numbers at the positions that count."""
        return index_S if self.position_K is None else index_S[self.position_K]


def kept_counts(count_B: Int[Tensor, "B"], share: float) -> Int[Tensor, "B"]:
    """ceil(share · count), of none none.

    >>> kept_counts(torch.tensor([0, 1, 5, 30]), 0.1).tolist()
    [0, 1, 1, 3]
    """
    return (share * count_B.double() - _ROUNDING).ceil().long().clamp(min=0)


def lowest_positions(
    loss_S: Float[Tensor, "S"], owner_S: Int[Tensor, "S"], num_examples: int, share: float
) -> Int[Tensor, "K"]:
    """Of each example the ceil(share · count) positions with the lowest loss, in order; of equal ones the first.

    >>> lowest_positions(torch.tensor([3.0, 1.0, 2.0, 9.0]), torch.tensor([0, 0, 0, 1]), 2, 0.5).tolist()
    [1, 2, 3]
    """
    by_loss_S = loss_S.argsort(stable=True)
    order_S = by_loss_S[owner_S[by_loss_S].argsort(stable=True)]
    count_B = torch.bincount(owner_S, minlength=num_examples)
    first_B = count_B.cumsum(0) - count_B
    rank_S = torch.arange(len(order_S), device=order_S.device) - first_B[owner_S[order_S]]
    return order_S[rank_S < kept_counts(count_B, share)[owner_S[order_S]]].sort().values


def picked(said: Predictions, controls: Controls) -> Pick:
    """What the controls leave of a batch, by what the model that learns says of it."""
    if controls.lowest == 1 and controls.cap is None:
        return Pick(None, None)
    with torch.no_grad():
        bare = Predictions(said.logits_SV.detach(), said.target_S, said.owner_S, said.num_examples)
        loss_S = -bare.logp_S
        share, cap = controls.lowest, controls.cap
        position_K = lowest_positions(loss_S, said.owner_S, said.num_examples, share) if share < 1 else None
        return Pick(position_K, None if cap is None else said.sum_by_example(loss_S) >= cap)


def controlled(said: Predictions, controls: Controls, pick: Pick | None = None) -> tuple[Predictions, Pick]:
    """What an objective is shown of predictions, and what was picked.

    Args:
        said: at all scored positions.
        controls: of the set.
        pick: made before, by the model that learns; None = these predictions decide.

    >>> said = Predictions(torch.tensor([[2.0, 0.0], [0.0, 4.0]]), torch.tensor([0, 0]), torch.tensor([0, 0]), 1)
    >>> shown, pick = controlled(said, Controls(temperature=2.0, lowest=0.5))
    >>> shown.logits_SV.tolist(), pick.position_K.tolist()
    ([[1.0, 0.0]], [0])
    """
    pick = picked(said, controls) if pick is None else pick
    if pick.is_all and controls.temperature == 1:
        return said, pick
    shown_KV = pick.of(said.logits_SV, said.owner_S)
    if controls.temperature != 1:
        shown_KV = shown_KV / controls.temperature
    return Predictions(shown_KV, pick.integers(said.target_S), pick.integers(said.owner_S), said.num_examples), pick


@dataclass
class ControlledBatch:
    """A batch as an objective is shown it. A copy on a device (``to``) has not picked yet.

    Attributes:
        bare: the whole batch.
        controls: of its set.
        pick: what is shown, once a model was asked.
    """

    bare: Batch
    controls: Controls
    pick: Pick | None = field(default=None, init=False)

    def __len__(self) -> int:
        return len(self.bare)

    @property
    def ids(self) -> tuple[str, ...]:
        """Of the examples, rows in order."""
        return self.bare.ids

    @cached_property
    def num_scored(self) -> int:
        """Scored positions that will be kept, whichever they are."""
        if self.controls.lowest == 1:
            return self.bare.num_scored
        count_B = torch.bincount(self.bare.owner_S, minlength=len(self))
        return int(kept_counts(count_B, self.controls.lowest).sum())

    @property
    def target_S(self) -> Int[Tensor, "K"]:
        """What is right at each position that is shown; at all of them until a model was asked."""
        return self.bare.target_S if self.pick is None else self.pick.integers(self.bare.target_S)

    @property
    def owner_S(self) -> Int[Tensor, "K"]:
        """Row of each position that is shown; of all of them until a model was asked."""
        return self.bare.owner_S if self.pick is None else self.pick.integers(self.bare.owner_S)

    def to(self, device: torch.device) -> ControlledBatch:
        """The same batch on a device."""
        return ControlledBatch(self.bare.to(device), self.controls)

    def inputs(self) -> dict[str, Tensor]:
        """Keyword arguments of the model's forward."""
        return self.bare.inputs()

    def gather(self, values: Tensor) -> Tensor:
        """Values at the positions that are shown; of a capped example without a gradient. No temperature."""
        return self.shown(self.bare.gather(values))

    def shown(self, values: Tensor) -> Tensor:
        """Of values at all scored positions those that are shown; of a capped example without a gradient."""
        return self._made().of(values, self.bare.owner_S)

    def predict(self, model: nn.Module) -> Predictions:
        """One forward pass, as it is shown; the first one picks."""
        return self.seen(self.bare.predict(model))

    def predict_with(self, model: nn.Module, others: Sequence[Batch]) -> list[Predictions]:
        """Of this batch and others, each as it is shown."""
        named = {str(number): batch for number, batch in enumerate((self, *others))}
        return list(predict_together(model, named).values())

    def seen(self, said: Predictions, *, picks: bool = True) -> Predictions:
        """What is shown of a pass over the whole batch."""
        if self.pick is None and not picks:
            self._made()
        shown, self.pick = controlled(said, self.controls, self.pick)
        return shown

    def _made(self) -> Pick:
        """The pick; it does not matter whose turn it is where everything is shown."""
        if self.pick is not None:
            return self.pick
        if self.controls.lowest == 1 and self.controls.cap is None:
            return Pick(None, None)
        raise TypeError("the model that learns must be asked before its reference, and before hidden states are read")


@dataclass(frozen=True)
class ControlledSet:
    """A set whose batches are controlled.

    Attributes:
        bare: the whole set.
        controls: of it.
    """

    bare: ExampleSet
    controls: Controls

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids in the order of the data."""
        return self.bare.ids

    def __len__(self) -> int:
        return len(self.bare)

    def batch(self, ids: Sequence[str]) -> ControlledBatch:
        """The examples with these ids as one batch."""
        return ControlledBatch(self.bare.batch(ids), self.controls)

    def subset(self, ids: Iterable[str]) -> ControlledSet:
        """The examples with these ids as a set, in the order of this one."""
        return ControlledSet(self.bare.subset(ids), self.controls)

    def plain(self) -> ControlledSet:
        """The same set with nothing done to its examples at random."""
        return ControlledSet(self.bare.plain(), self.controls)


def as_shown(examples: ExampleSet, controls: Controls | None) -> ExampleSet:
    """A set as an objective is to see it: itself where it has no controls."""
    return examples if controls is None else ControlledSet(examples, controls)
