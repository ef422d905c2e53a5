"""Federated averaging as a procedure, and when it ends without a number."""

from __future__ import annotations

from collections.abc import Sequence

from palimpsest.companions.round_record import Replies, Weights
from palimpsest.federated.averaging import averaged_by
from palimpsest.federated.procedure import Errand, Procedure

MOST_ROUNDS = 50
"""Rounds after which it ends in any case."""

IDLE_ROUNDS = 2
"""Rounds in a row without progress after which it ends."""

LEAST_PROGRESS = 0.01
"""Share of the lowest loss so far by which a round must be below it."""


def loss_of(answers: Replies) -> float:
    """Mean of the clients' losses at the weights that they were sent, by their rows; nats."""
    rows = sum(told.examples for told in answers.values())
    return sum(answers[name].loss * answers[name].examples for name in sorted(answers)) / rows


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


def fed_avg(start: Weights, names: tuple[str, ...], epochs: float, rounds: int | None = None) -> Procedure:
    """Federated averaging: every client learns from the global weights, and their changes are averaged by their rows.

    Source: McMahan et al. 2017, arXiv:1602.05629, algorithm 1, with all clients in every round.

        w ← w + Σ_k (n_k / n) · Δ_k

    Departs from the paper: without a number of rounds it ends when the mean loss before the local work has not fallen
    by 1 % for two rounds, after 50 rounds at the latest.

    Args:
        start: weights before the first round.
        names: of the clients.
        epochs: local passes of one round.
        rounds: so many; None = by that rule.
    """
    weights, losses = dict(start), list[float]()
    for _ in range(MOST_ROUNDS if rounds is None else rounds):
        answers = yield Errand(weights, names, epochs)
        losses.append(loss_of(answers))
        weights = averaged_by(weights, answers)
        if rounds is None and has_stopped(losses):
            break
    return weights
