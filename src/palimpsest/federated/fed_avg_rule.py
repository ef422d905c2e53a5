"""When federated averaging ends without a number of rounds. No torch."""

from __future__ import annotations

from collections.abc import Sequence

from palimpsest.in_words import so_many

MOST_ROUNDS = 50
"""Rounds after which it ends in any case."""

IDLE_ROUNDS = 2
"""Rounds in a row without progress after which it ends."""

LEAST_PROGRESS = 0.01
"""Share of the lowest loss so far by which a round must be below it."""


def has_stopped(losses: Sequence[float]) -> bool:
    """Has the loss stopped falling: no round of the last two was 1 % below the lowest one before it?

    Args:
        losses: of all rounds so far, each before its local work.

    >>> has_stopped([2.0, 1.0, 0.995, 0.993]), has_stopped([2.0, 1.0, 0.995, 0.5]), has_stopped([2.0, 1.0])
    (True, False, False)
    """
    lowest, idle = float("inf"), 0
    for loss in losses:
        idle = 0 if loss < lowest * (1 - LEAST_PROGRESS) else idle + 1
        lowest = min(lowest, loss)
    return idle >= IDLE_ROUNDS


def ended_by_rule(losses: Sequence[float]) -> str:
    """Why so many rounds without a number were the last, in words.

    >>> ended_by_rule([2.0, 1.0, 0.995, 0.993])
    '4 rounds: in the last 2 the loss before local work had not fallen by 1 %'
    """
    count = so_many(len(losses), "round")
    if not has_stopped(losses):
        return f"{count}, the most without --rounds"
    return (
        f"{count}: in the last {IDLE_ROUNDS} the loss before local work had not fallen by {LEAST_PROGRESS:.0%}".replace(
            "%", " %"
        )
    )
