"""How far a method is from its oracle on a request, and how values of several seeds are put together.

Source: the gap is Avg.D of SFR-on (Huang et al. 2024, arXiv:2409.19732) with LA. With j the requests:

    gap_j = mean over the components c of request j of |c − c of the oracle of j|

A gap needs its components beside it: two opposite errors of a method have the same gap as two equal ones. What is said
of a whole stream is in ``metrics/per_stream``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

MaybeMeasured = Mapping[str, float | None]


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
