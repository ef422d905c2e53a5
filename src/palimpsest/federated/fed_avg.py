"""Federated averaging as a procedure."""

from __future__ import annotations

from collections.abc import Mapping

from palimpsest.companions.round_record import Replies, Weights
from palimpsest.federated.averaging import averaged_by
from palimpsest.federated.fed_avg_rule import MOST_ROUNDS, has_stopped
from palimpsest.federated.procedure import NO_SETTINGS, Combine, Errand, Procedure


def loss_of(answers: Replies) -> float:
    """Mean of the clients' losses at the weights that they were sent, by their rows; nats."""
    rows = sum(told.examples for told in answers.values())
    return sum(answers[name].loss * answers[name].examples for name in sorted(answers)) / rows


def fed_avg(
    start: Weights,
    names: tuple[str, ...],
    epochs: float,
    rounds: int | None = None,
    combine: Combine = averaged_by,
    *,
    settings: Mapping[str, float] = NO_SETTINGS,
) -> Procedure:
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
        combine: weights and answers -> new weights; the mean by rows if not given.
        settings: of the local work.
    """
    weights, losses = dict(start), list[float]()
    for _ in range(MOST_ROUNDS if rounds is None else rounds):
        answers = yield Errand(weights, names, epochs, settings=settings)
        losses.append(loss_of(answers))
        weights = combine(weights, answers)
        if rounds is None and has_stopped(losses):
            break
    return weights
