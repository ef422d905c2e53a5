"""How far a score is from its reference: a difference or a ratio of means, with a bootstrap interval.

Paired comparisons use the examples that both sides scored, matched by id, and resample pairs; unpaired ones resample
each side on its own. Intervals are percentile bootstrap intervals at 95 % (Efron and Tibshirani 1993, chapter 13).

Shape legend: R resampled sets, N examples, last axis 2: the score and its reference.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from palimpsest.metrics.statistics import bootstrap, paired_difference

Mode = Literal["difference", "ratio"]
Average = Literal["arithmetic", "geometric"]
_ById = Mapping[str, float | None]
_Values = NDArray[np.float64]

QUANTILES = (0.025, 0.975)
_OF_NORMAL = 1.96  # standard deviations to either side that hold 95 %


class Draws(NamedTuple):
    """The bootstrap's seed and number of resamples."""

    seed: int = 0
    resamples: int = 1000


DRAWS = Draws()


class Comparison(NamedTuple):
    """A compared quantity.

    Attributes:
        value: the difference or ratio; None when it is not defined.
        low: lower end of its 95 % interval; None when fewer than two examples were compared.
        high: upper end. Both ends are not numbers where resampled denominators are 0.
        n: pairs compared, or examples on the smaller side when the sides are not paired.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int


def paired(a: _ById, b: _ById, mode: Mode, *, average: Average = "arithmetic", draws: Draws = DRAWS) -> Comparison:
    """Compare two scores of the same examples.

    Args:
        a: id -> value.
        b: id -> reference value.
        mode: mean(a) - mean(b), or mean(a) / mean(b).
        average: of a ratio; "geometric" is exp of the mean log-ratio and needs values > 0.
        draws: of the bootstrap.

    Returns:
        Comparison over the ids that have a value on both sides.

    >>> paired({"x": 3.0, "y": 1.0}, {"x": 1.0, "y": 1.0}, "ratio").value
    2.0
    """
    if mode == "difference":
        return _paired_difference(a, b, draws)
    if average == "geometric":
        return _exp(_paired_difference(_logs(a), _logs(b), draws))
    pairs = [(x, y) for key, x in a.items() if x is not None and (y := b.get(key)) is not None]
    both_N2 = np.array(pairs, dtype=np.float64).reshape(-1, 2)
    if not both_N2[:, 1].sum():
        return Comparison(None, None, None, len(pairs))
    with np.errstate(divide="ignore", invalid="ignore"):
        low, high = bootstrap(
            both_N2, lambda both_RN2: _relate(both_RN2.mean(-2), "ratio"), seed=draws.seed, resamples=draws.resamples
        )
    return Comparison(float(_relate(both_N2.mean(0), "ratio")), low, high, len(pairs))


def widened(result: Comparison, right: _ById, expected: _ById) -> Comparison:
    """A difference of rows that are right or wrong from shares expected of them, with what chance does to so few.

        half of the interval ≥ 1.96 · √(Σ p (1 − p)) / n

    Resampling rows that are all right finds no spread, though rows of which p are right by chance may well be. A level
    of 0 or 1 leaves nothing to chance. Source: the normal approximation to a sum of independent draws of chances p.

    Args:
        result: of ``paired``, by differences.
        right: id -> 0 or 1.
        expected: id -> p, between 0 and 1.

    >>> right, expected = {"a": 1.0, "b": 1.0}, {"a": 0.8, "b": 0.8}
    >>> [round(x, 2) for x in widened(paired(right, expected, "difference"), right, expected)[:3]]
    [0.2, -0.35, 0.75]
    """
    shares = [p for key, x in right.items() if x is not None and (p := expected.get(key)) is not None]
    if result.value is None or not shares:
        return result
    half = _OF_NORMAL * math.sqrt(sum(p * (1 - p) for p in shares)) / len(shares)
    ends = [end for end in (result.low, result.high) if end is not None]
    return result._replace(low=min([result.value - half, *ends]), high=max([result.value + half, *ends]))


def unpaired(a: _ById, b: _ById, mode: Mode, *, average: Average = "arithmetic", draws: Draws = DRAWS) -> Comparison:
    """Compare scores of two different groups of examples; arguments as in ``paired``.

    >>> unpaired({"x": 3.0}, {"y": 1.0, "z": 2.0}, "difference").value
    1.5
    """
    if mode == "ratio" and average == "geometric":
        return _exp(unpaired(_logs(a), _logs(b), "difference", draws=draws))
    sides = [_scored(a), _scored(b)]
    n = min(map(len, sides))
    if n == 0 or (mode == "ratio" and not sides[1].sum()):
        return Comparison(None, None, None, n)
    value = float(_relate(np.array([side.mean() for side in sides]), mode))
    if n == 1:
        return Comparison(value, None, None, n)
    with np.errstate(divide="ignore", invalid="ignore"):
        low, high = np.quantile(_relate(_resampled_means(sides, draws), mode), QUANTILES)
    return Comparison(value, float(low), float(high), n)


def _scored(side: _ById) -> _Values:
    return np.array([value for value in side.values() if value is not None], dtype=np.float64)


def _resampled_means(sides: list[_Values], draws: Draws) -> _Values:
    """Means of R resamples of each side, (R, 2); one resample at a time bounds the memory."""
    rng = np.random.default_rng(draws.seed)
    means = [[side[rng.integers(len(side), size=len(side))].mean() for side in sides] for _ in range(draws.resamples)]
    return np.array(means, dtype=np.float64)


def _relate(means: _Values, mode: Mode) -> _Values:
    """(..., 2) -> (...,): the first minus or divided by the second."""
    first, second = means[..., 0], means[..., 1]
    return np.asarray(first - second if mode == "difference" else first / second)


def _paired_difference(a: _ById, b: _ById, draws: Draws) -> Comparison:
    return Comparison(*paired_difference(a, b, seed=draws.seed, resamples=draws.resamples))


def _logs(side: _ById) -> dict[str, float | None]:
    # A value <= 0 has no logarithm: it counts as unscored rather than as an infinitely good ratio.
    return {key: math.log(value) if value is not None and value > 0 else None for key, value in side.items()}


def _exp(log_ratio: Comparison) -> Comparison:
    value, low, high = (None if x is None else float(np.exp(x)) for x in log_ratio[:3])
    return Comparison(value, low, high, log_ratio.n)
