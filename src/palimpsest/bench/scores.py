"""What a bench says of a method, as pure functions of accuracies and divergences.

Source: A and F as in the code of CLPU (Liu, Liu, Stone 2022); the gap of one request is Avg.D of SFR-on (Huang et al.
2024, arXiv:2409.19732) with LA; relapse is ours. With j the requests, t the tasks and acc in points (per cent):

    gap_j     = mean over the components c of request j of |c − c of the oracle of j|
    A         = Σ_j,t kept_jt · acc_jt / Σ_j,t kept_jt
    F         = Σ_j,t kept_jt · (acc_t when first learned − acc_jt) / Σ_j,t kept_jt
    relapse_i = max over j > i of (v_j − v_i),   v_j: what is measured after request j on the forget set of request i

The two terms of a difference are means over the same examples, those in both measurements: of a task, as of a forget
set, a part may go later, and the rest may have been easier all along.

A gap needs its components beside it: two opposite errors of a method have the same gap as two equal ones.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

MaybeMeasured = Mapping[str, float | None]
ById = Mapping[str, float]


class Spread(NamedTuple):
    """Mean, lowest and highest of some numbers, and how many they are."""

    mean: float
    low: float
    high: float
    n: int


def spread(values: Sequence[float | None]) -> Spread | None:
    """Mean and range of those values that are there; None without any.

    >>> spread([1.0, None, 3.0])
    Spread(mean=2.0, low=1.0, high=3.0, n=2)
    """
    found = [value for value in values if value is not None]
    return Spread(sum(found) / len(found), min(found), max(found), len(found)) if found else None


def differences(method: MaybeMeasured, oracle: MaybeMeasured) -> dict[str, float]:
    """Component -> method − oracle, for the components that both have.

    >>> differences({"LA": 98.0, "UA": None}, {"LA": 99.0, "UA": 5.0})
    {'LA': -1.0}
    """
    pairs = {name: (value, oracle.get(name)) for name, value in method.items()}
    return {name: mine - theirs for name, (mine, theirs) in pairs.items() if mine is not None and theirs is not None}


def gap(method: MaybeMeasured, oracle: MaybeMeasured) -> float | None:
    """Mean absolute difference over the components that both have; None without any.

    >>> gap({"LA": 98.0, "UA": 10.0}, {"LA": 99.0, "UA": 5.0})
    3.0
    """
    found = [abs(value) for value in differences(method, oracle).values()]
    return sum(found) / len(found) if found else None


def average_accuracy(accuracies: Sequence[Mapping[str, float]]) -> float | None:
    """A: mean over all requests and the tasks that are kept after them.

    Args:
        accuracies: per request, task -> accuracy on what is kept of it; tasks of which nothing is kept are left out.

    >>> average_accuracy([{"0": 100.0}, {"0": 80.0, "1": 90.0}])
    90.0
    """
    found = [value for tasks in accuracies for value in tasks.values()]
    return sum(found) / len(found) if found else None


def forgetting(values: Sequence[Mapping[str, ById]]) -> float | None:
    """F: mean over the same of the accuracy when first learned less the current one; negative when it rose.

    Args:
        values: per request, task -> example -> accuracy, for what is kept of it.

    >>> forgetting([{"0": {"a": 100.0, "b": 0.0}}, {"0": {"a": 80.0}, "1": {"c": 90.0}}, {"1": {"c": 96.0}}])
    3.5
    """
    first: dict[str, ById] = {}
    rises = [rise(first.setdefault(task, now), now) for tasks in values for task, now in tasks.items()]
    found = [-value for value in rises if value is not None]
    return sum(found) / len(found) if found else None


def relapse(after: Sequence[ById]) -> float | None:
    """Highest rise above the first values; None when nothing came later.

    Args:
        after: example -> what was measured, on what is still forgotten of one forget set, after the request that forgot
            it and after each later one.

    >>> relapse([{"a": 10.0, "b": 0.0}, {"a": 12.5, "b": 0.0}, {"a": 11.0}, {}])
    1.25
    """
    first, *later = after or [{}]
    found = [value for now in later if (value := rise(first, now)) is not None]
    return max(found, default=None)


def rise(before: ById, after: ById) -> float | None:
    """Mean of after − before over the examples in both; None without any.

    >>> rise({"a": 1.0, "b": 0.0}, {"a": 0.5, "c": 1.0})
    -0.5
    """
    both = before.keys() & after.keys()
    return math.fsum(after[i] - before[i] for i in both) / len(both) if both else None
