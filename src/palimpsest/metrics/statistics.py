"""Confidence intervals and paired differences over examples. Pure NumPy.

Shape legend: N examples, R resampled sets, K numbers per example.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float

    Statistic = Callable[[Float[np.ndarray, "..."]], Float[np.ndarray, "*R"]]


_ELEMENTS = 4_000_000  # numbers drawn at once: bounds the memory, does not change the result


class Difference(NamedTuple):
    """Mean of a - b over the examples scored in both, its confidence interval, and their number."""

    difference: float | None
    low: float | None
    high: float | None
    n: int


def mean(values: Float[np.ndarray, "... N"]) -> Float[np.ndarray, "*R"]:
    """Mean over the last axis, the examples."""
    return np.asarray(values.mean(-1))


def single_sum(values: Float[np.ndarray, "N"]) -> float:
    """Sum in single precision, one value after the other, as torch adds up the positions of an example.

    >>> single_sum(np.array([2.0**24, 1.0, 1.0], dtype=np.float32))
    16777216.0
    """
    return float(np.add.accumulate(values, dtype=np.float32)[-1])


def bootstrap(
    values: Float[np.ndarray, "N ..."] | list[float],
    statistic: Statistic = mean,
    *,
    seed: int = 0,
    resamples: int = 1000,
    level: float = 0.95,
) -> tuple[float | None, float | None]:
    """Percentile bootstrap interval of a statistic over examples.

    Args:
        values: one number, or K numbers, per example: (N,) or (N, K).
        statistic: vectorised: (R, N) or (R, N, K) -> (R,).
        seed: same seed, same interval.
        resamples: sets drawn with replacement.
        level: coverage, in (0, 1).

    Returns:
        Low and high end; (None, None) when fewer than two examples, where nothing is known of the spread.

    Source: Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapter 13.

    >>> bootstrap([0.25, 0.25, 0.25])
    (0.25, 0.25)
    >>> bootstrap([0.5])
    (None, None)
    """
    values_N = np.asarray(values, dtype=np.float64)
    count = len(values_N)
    if count < 2:
        return None, None
    rng = np.random.default_rng(seed)
    at_once = max(1, _ELEMENTS // values_N.size)
    drawn = []
    for start in range(0, resamples, at_once):
        choice_RN = rng.integers(0, count, size=(min(at_once, resamples - start), count))
        drawn.append(statistic(values_N[choice_RN]))
    tail = (1 - level) / 2
    low, high = np.quantile(np.concatenate(drawn), [tail, 1 - tail])
    return float(low), float(high)


def paired_difference(
    a: Mapping[Any, float | None],
    b: Mapping[Any, float | None],
    *,
    seed: int = 0,
    resamples: int = 1000,
    level: float = 0.95,
) -> Difference:
    """Mean of a - b over the ids scored in both, with a bootstrap interval over those ids.

    >>> paired_difference({"x": 0.75, "y": 0.5, "z": None}, {"x": 0.25, "y": 0.0, "z": 1.0})
    Difference(difference=0.5, low=0.5, high=0.5, n=2)
    """
    pairs = ((a[key], b[key]) for key in a if key in b)
    differences = [left - right for left, right in pairs if left is not None and right is not None]
    if not differences:
        return Difference(None, None, None, 0)
    low, high = bootstrap(differences, seed=seed, resamples=resamples, level=level)
    return Difference(float(np.mean(differences)), low, high, len(differences))
