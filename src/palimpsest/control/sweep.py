"""The first rate: how large a step may be before it breaks something.

From one snapshot, one iteration (of a method with a cycle: one cycle) at each of ever larger rates, on the same forget
batch, without repair. The sweep ends at the *crossing*, the first rate that halves the ES of retain, adds 0.3 nats to
general text, brings the forget set to its level or is not finite. The first rate is the largest within the floors, and at
most half the crossing.

Source: the learning-rate range test of Smith 2015, arXiv:1506.01186, with floors in the place of a loss curve; damage as
the yardstick of a step as in RepSelect, arXiv:2606.17168.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

LOWEST = 1e-6
HIGHEST = 10.0
UNMOVED = 1e-3  # nats: below it a step moved nothing, and the next rate is four times as high
HALVED = 0.5  # of the ES of retain
BROKEN = 0.3  # nats of general text
OF_SMALLEST = 0.25


class Trial(NamedTuple):
    """One rate.

    Attributes:
        rate: tried.
        used: units of the floors after it; infinite where the iteration diverged.
        crossed: is it the crossing?
        moved: the largest change in nats of forget or retain.
    """

    rate: float
    used: float
    crossed: bool
    moved: float


def next_rate(trial: Trial) -> float:
    """The rate to try after this one.

    >>> next_rate(Trial(1e-6, 0.0, False, 0.0)), next_rate(Trial(1e-3, 0.2, False, 0.5))
    (4e-06, 0.002)
    """
    return trial.rate * (4 if trial.moved < UNMOVED else 2)


def first_rate(trials: Sequence[Trial], ceiling: float) -> tuple[float, float]:
    """The first rate and the highest allowed, from the trials of a sweep.

    Args:
        trials: in the order of rates, at least one.
        ceiling: times the first rate.

    >>> first_rate([Trial(1e-4, 0.1, False, 0.1), Trial(2e-4, 0.4, False, 0.3), Trial(4e-4, 3.0, True, 1.0)], 4.0)
    (0.0002, 0.0004)
    """
    crossing = next((t.rate for t in trials if t.crossed), HIGHEST)
    within = [t.rate for t in trials if t.used <= 1 and not t.crossed]
    moved = [t.rate for t in trials if t.moved >= UNMOVED]
    if within:
        rate = min(within[-1], crossing / 2)
    else:
        rate = OF_SMALLEST * (moved[0] if moved else crossing)
    return rate, min(crossing, ceiling * rate)
