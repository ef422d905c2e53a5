"""How much of a change can stay if what was to be kept may lose only so much: every method at one retention.

Source: Wang et al. 2024, arXiv:2406.09179 ("Towards Effective Evaluations and Comparisons for LLM Unlearning Methods"):
methods trade removal against retention, so they are compared after each was moved back to the same retention.

    α* = max { α in [0, 1] : metric_retain(θ(α)) ≥ τ · metric_retain(θ(0)) },    θ(α) as in ``models/mixing.py``

of a metric where lower is more known: ≤ 1/τ of it. α = 1 is asked first, then intervals are halved: the α found is
kept, and the next one that was asked, ``tolerance`` above, was not. That supposes that the metric falls with α, which
the points that were asked are held against.

Departs from the paper: none. Its released code has α set by hand.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from palimpsest.errors import DataError, PlanError
from palimpsest.records import Cost, Direction, Score

if TYPE_CHECKING:  # a bound is computed without torch
    from palimpsest.data.encode.any_set import MeasuredSet
    from palimpsest.metrics.metric import Metric
    from palimpsest.models.load import Loaded
    from palimpsest.models.mixture import Mixture
    from palimpsest.models.stored import Tensors

SET = "retain"
UNEVEN = 0.02  # of the metric, of one above 1 as a share of its value before: what rounding and few rows may do
Taken = tuple[Mapping[str, Mapping[str, Score]], Cost]
"""Set -> metric key -> score, and what taking it cost."""
Remember = Callable[[float, Callable[[], Taken]], Taken]
"""Is given alpha and what takes the metric there; may keep what it took."""


@dataclass(frozen=True)
class MixedPoint:
    """What the model scores on what must stay, so far on the way to the model after.

    Attributes:
        alpha: 0 (before) to 1 (after).
        value: of the metric.
    """

    alpha: float
    value: float


@dataclass(frozen=True)
class Calibrated:
    """How far the change was kept.

    Attributes:
        alpha: the share of the change that stays.
        metric: key.
        tau: share of the value before that had to be kept.
        bound: the value that this means.
        points: all that was asked, in the order of alpha; the first is the model before, the last the model after.
        uneven: the largest step up with alpha where it should fall (of one that should rise, down).
        even: is that within ``UNEVEN``?
        evaluations: times the metric was taken, the model before apart.
        cost: of taking them.
    """

    alpha: float
    metric: str
    tau: float
    bound: float
    points: tuple[MixedPoint, ...]
    uneven: float
    even: bool
    evaluations: int
    cost: Cost


def bound_of(before: float, tau: float, direction: Direction) -> float:
    """The value that what is kept must at least (of a metric where lower is more known: at most) have.

    >>> bound_of(0.8, 0.95, Direction.HIGHER), bound_of(19.0, 0.95, Direction.LOWER)
    (0.76, 20.0)
    """
    return tau * before if direction is Direction.HIGHER else before / tau


def halvings_of(tolerance: float) -> int:
    """Halvings of [0, 1] after which an interval is at most so long.

    >>> halvings_of(1 / 64), halvings_of(0.3)
    (6, 2)
    """
    return max(0, math.ceil(math.log2(1 / tolerance) - 1e-9))


def largest_kept(is_kept: Callable[[float], bool], halvings: int) -> float:
    """The largest alpha that is kept, to 2^-halvings: 1 is asked first, then the middle of what is left; 0 is kept.

    Where what is kept is no interval from 0 on, one of its upper ends.

    Args:
        is_kept: asked at most ``halvings + 1`` times.
        halvings: after 1 was not kept.
    """
    if is_kept(1.0):
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(halvings):
        middle = (low + high) / 2
        low, high = (middle, high) if is_kept(middle) else (low, middle)
    return low


def unevenness(points: Sequence[MixedPoint], direction: Direction) -> float:
    """The largest way back up of a curve that should fall with alpha; of one where lower is more known, down.

    >>> unevenness([MixedPoint(0, 1.0), MixedPoint(0.5, 0.4), MixedPoint(1, 0.5)], Direction.HIGHER)
    0.1
    """
    sign = 1.0 if direction is Direction.HIGHER else -1.0
    values = [sign * point.value for point in sorted(points, key=lambda point: point.alpha)]
    least, largest = math.inf, 0.0
    for value in values:
        largest = max(largest, value - least) if math.isfinite(value) else largest
        least = min(least, value)
    return round(largest, 12)


def check_settings(tau: float, tolerance: float, direction: Direction, metric: str) -> None:
    """Refuse a share, a tolerance or a metric that no calibration can go by.

    Raises:
        PlanError: says which.
    """
    if isinstance(tau, bool) or not isinstance(tau, int | float) or not 0 < tau <= 1:
        raise PlanError(f"tau is {tau!r}; accepted: above 0, at most 1 (0.95 keeps 95 % of the metric before)")
    if isinstance(tolerance, bool) or not isinstance(tolerance, int | float) or not 2**-20 <= tolerance <= 1:
        raise PlanError(f"tolerance is {tolerance!r}; accepted: 2^-20 to 1 (1/64 takes at most 7 evaluations)")
    if direction is Direction.NEITHER:
        raise PlanError(f"metric {metric!r} says neither way what is known; accepted: one that does, such as es")


def calibrated(
    before: Loaded,
    after: Loaded | Tensors | Mixture,
    retain: MeasuredSet,
    *,
    metric: str | Metric = "es",
    tau: float = 0.95,
    tolerance: float = 1 / 64,
    own: Tensors | None = None,
    remember: Remember = lambda _alpha, compute: compute(),
) -> Calibrated:
    """Find the largest share of a change that keeps what must stay at ``tau`` of its value before.

    Args:
        before: the model before, in memory on its device; as it was afterwards.
        after: the model after, its tensors as they are stored, or the mixture of the two, parts and all.
        retain: what must stay, encoded; best rows that no run was trained on.
        metric: name, or one with its options.
        tau: share of the value before, above 0, at most 1.
        tolerance: the alpha found may be so much too small.
        own: where the tensors of the model before are read again from; None = copies in memory.
        remember: called for each measurement; keeps them, so that none is taken twice.

    Raises:
        PlanError: a setting that is none.
        ModelError: the two models are not of one shape.
        DataError: the model before scores nothing to keep a share of.
    """
    from palimpsest import metrics

    taken = metrics.build(metric, {}) if isinstance(metric, str) else metric
    check_settings(tau, tolerance, taken.direction, taken.key)
    asker = _Asker(before, after, retain, metric=taken, own=own, remember=remember)
    start = asker.value_at(0.0)
    bound = bound_of(start, tau, taken.direction)

    def is_kept(alpha: float) -> bool:
        value = asker.value_at(alpha)
        return value >= bound if taken.direction is Direction.HIGHER else value <= bound

    alpha = largest_kept(is_kept, halvings_of(tolerance))
    points = tuple(sorted(asker.points, key=lambda point: point.alpha))
    uneven = unevenness(points, taken.direction)
    even = uneven <= UNEVEN * max(1.0, abs(start))
    return Calibrated(alpha, taken.key, tau, bound, points, uneven, even, len(points) - 1, asker.cost())


class _Asker:
    """Takes the metric of mixed models, and notes what it found."""

    def __init__(
        self,
        before: Loaded,
        after: Loaded | Tensors | Mixture,
        retain: MeasuredSet,
        *,
        metric: Metric,
        own: Tensors | None,
        remember: Remember,
    ) -> None:
        self.before, self.after, self.own, self.retain = before, after, own, retain
        self.metric, self.remember = metric, remember
        self.points: list[MixedPoint] = []
        self.costs: list[Cost] = []

    def value_at(self, alpha: float) -> float:
        """The metric of the mixed model."""
        scores, cost = self.remember(alpha, lambda: self._take(alpha))
        score = scores[SET][self.metric.key]
        if score.value is None or math.isnan(score.value) or (not alpha and not score.value):
            raise DataError(self._nothing(score))
        self.points.append(MixedPoint(alpha, score.value))
        self.costs.append(cost)
        return score.value

    def _take(self, alpha: float) -> Taken:
        from palimpsest.metrics.evaluate import evaluate_in_run

        with self._at(alpha) as model:
            found = evaluate_in_run(model, self.retain, [self.metric], eos_ids=self.before.eos_ids)
        return {SET: found.scores}, found.cost

    def _at(self, alpha: float) -> AbstractContextManager[Any]:
        from palimpsest.models.mixing import mixed
        from palimpsest.models.mixture import Mixture

        if isinstance(self.after, Mixture):
            return self.after.at(alpha)
        return mixed(self.before, self.after, alpha, own=self.own)

    def _nothing(self, score: Score) -> str:
        said = "nothing that can be scored" if score.value is None else f"{self.metric.key} {score.value:g}"
        return (
            f"model {self.before.source} has {said} on the rows that must stay{score.why and f' ({score.why})'}, and "
            "no share of that can be kept; give rows that it knows, or another metric"
        )

    def cost(self) -> Cost:
        """Of all measurements."""
        peak = max((cost.peak_bytes for cost in self.costs), default=0)
        return Cost(sum(cost.seconds for cost in self.costs), sum(cost.tokens for cost in self.costs), peak)
