"""How far an edit may go: the largest step along one direction whose damage stays within a budget.

Source: RepSelectAdaptive, arXiv:2606.17168, known to us from notes, not from
its text: one number in, the damage that is allowed, and no rate. An exponential bracket, then bisection of logarithms.

    θ(a) = θ₀ − a · d,    a* = the largest a that was found with   0.95 B ≤ KL( p_θ₀ ‖ p_θ(a) ) ≤ B

KL is the mean over the scored positions of a probe, rows of what must stay. Every θ(a) is made from θ₀: adding and
taking back differences drifts in half precision. Weights of any kind have a line: an edit, a task vector, an adapter.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from palimpsest.contract import ExampleSet
from palimpsest.data.draws import shuffled
from palimpsest.method_card import Config
from palimpsest.models.divergence import kl_divergence
from palimpsest.models.in_passes import in_passes
from palimpsest.models.modes import asked
from palimpsest.terms import Recall

SLACK = 0.95  # share of the budget that counts as using it
BRACKET = 8.0  # of the bracket
MOST_TRIES = 40
PROBED_AT_ONCE = 8
FIRST_SHARE = 1e-3  # a line is first looked at where it has moved its weights by this share of their norm


class BudgetConfig(Config):
    """Options of an edit that goes as far as what must stay can bear."""

    budget: float = Field(default=0.02, gt=0)
    """B: damage that is allowed, as the mean KL on retain in nats per label token."""
    probe_rows: int = Field(default=64, ge=1)
    """Rows of retain on which the damage is read."""


@dataclass(frozen=True)
class LinePoint:
    """A place on a line.

    Attributes:
        size: a, how far along.
        damage: there, nats per position.
        tries: places that were looked at before this one was taken.
    """

    size: float
    damage: float
    tries: int = 0


def largest_within(
    damage_at: Callable[[float], float], budget: float, *, first: float = 1.0, most: float = math.inf
) -> LinePoint:
    """The largest size that was found within the budget; size 0 where every one was beyond it.

    Args:
        damage_at: size -> damage; what is not a number is beyond any budget.
        budget: B, > 0.
        first: size that is looked at first, > 0.
        most: no size above this is looked at.

    >>> found = largest_within(lambda size: size**2, 4.0)
    >>> 0.95 * 4 <= found.damage <= 4, round(found.size, 2)
    (True, 1.95)
    """
    low, high, size = LinePoint(0.0, 0.0), math.inf, min(first, most)
    for tries in range(1, MOST_TRIES + 1):
        damage = damage_at(size)
        if damage <= budget:
            low = LinePoint(size, damage, tries)
            if damage >= SLACK * budget or size >= most:
                break
        else:
            high = size
        size = min(most, _between(low.size, high))
    return low


def _between(low: float, high: float) -> float:
    """Farther out until the budget was passed, nearer until it was kept, then the middle of the logarithms."""
    if math.isinf(high):
        return low * BRACKET
    return math.sqrt(low) * math.sqrt(high) if low > 0 else high / BRACKET


def largest_count(damage_at: Callable[[int], float], budget: float, most: int) -> int:
    """The largest count within the budget: doubling until it is passed, then bisection; as if more never did less.

    >>> largest_count(lambda count: 0.1 * count, 0.55, 100)
    5
    """
    low, high = 0, min(1, most)
    while high > low and damage_at(high) <= budget:
        low, high = high, min(most, 2 * high)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if damage_at(middle) <= budget else (low, middle)
    return low


def probe_of(examples: ExampleSet, most: int) -> list[str]:
    """The rows at which damage is read, a choice by their ids alone."""
    return shuffled(examples.ids, 0, "damage", 0)[:most]


class Damage:
    """KL from the model before on a probe of what must stay, nats per scored position."""

    def __init__(self, recall: Recall, examples: ExampleSet, most: int) -> None:
        """A probe of at most ``most`` rows; the same ones at every call.

        Args:
            recall: what the model before says of a batch: ``Method.recall``.
            examples: what must stay.
            most: rows.
        """
        self._recall = recall
        self._examples = examples.plain()
        self._ids = probe_of(examples, most)

    def __call__(self, model: nn.Module) -> float:
        """Of the model as it is now."""
        total, positions = 0.0, 0
        with asked(model):
            for batch in (one.bare for one in in_passes(model, self._examples, PROBED_AT_ONCE, self._ids)):
                before, now = self._recall(model, batch), batch.predict(model)
                total += float(kl_divergence(before.logits_SV, now.logits_SV).sum())
                positions += batch.num_scored
        return total / max(1, positions)


class WeightLine:
    """θ(a) = θ₀ − a · d of some of a model's weights, always from θ₀."""

    def __init__(self, start: Mapping[str, Tensor], direction: Mapping[str, Tensor]) -> None:
        """A line.

        Args:
            start: θ₀ by parameter name, copies.
            direction: d by the same names, in any precision; its length is of no matter.
        """
        self._start, self._direction = start, direction

    @property
    def names(self) -> list[str]:
        """Of the weights on it."""
        return sorted(self._start)

    @torch.no_grad()
    def put(self, model: nn.Module, size: float) -> None:
        """Set the weights to θ(size), computed in fp32."""
        there = dict(model.named_parameters())
        for name, start in self._start.items():
            there[name].copy_(point_on_line(start, self._direction[name].to(start.device), size))

    def size_of(self, share: float, norm: float | None = None) -> float:
        """The size at which the weights have moved by a share of a norm; by default of their own."""
        own = _norm(self._start) if norm is None else norm
        return share * own / max(_norm(self._direction), torch.finfo(torch.float32).tiny)

    def go_within(self, model: nn.Module, damage: Callable[[nn.Module], float], budget: float) -> LinePoint:
        """Go as far as the budget lets, at most by the weights' own norm; the model is there afterwards."""

        def damage_at(size: float) -> float:
            self.put(model, size)
            return damage(model)

        reach = _norm(self._start) or _norm(dict(model.named_parameters()))
        first, most = self.size_of(FIRST_SHARE, reach), self.size_of(1.0, reach)
        found = largest_within(damage_at, budget, first=first, most=most)
        self.put(model, found.size)
        return found


def point_on_line(start: Float[Tensor, "..."], direction: Float[Tensor, "..."], size: float) -> Float[Tensor, "..."]:
    """θ₀ − a · d in fp32, in the dtype of θ₀; θ₀ itself, bit for bit, at a = 0.

    >>> point_on_line(torch.tensor([1.0, 2.0]), torch.tensor([0.5, 0.0]), 2.0).tolist()
    [0.0, 2.0]
    """
    return (start.float() - size * direction.float()).to(start.dtype) if size else start


def _norm(tensors: Mapping[str, Tensor]) -> float:
    return math.sqrt(sum(float(tensor.float().square().sum()) for tensor in tensors.values()))
