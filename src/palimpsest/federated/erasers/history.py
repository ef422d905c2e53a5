"""What erasers read in stored rounds: the answers of those who stay, and what the one who goes brought in."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from palimpsest.companions.round_record import Replies, Reply, Round, Weights
from palimpsest.federated.procedure import Procedure, Rounds


def rounds_of(history: Rounds) -> Iterator[Round]:
    """All rounds, the oldest first, one at a time in memory."""
    return (history[number] for number in range(len(history)))


def kept_of(stored: Round, gone: str) -> dict[str, Reply]:
    """Answers of all but one client, in the order of the names."""
    return {client: stored.told[client] for client in sorted(stored.told) if client != gone}


def staying(history: Rounds, gone: str) -> tuple[str, ...]:
    """Names of all but one client."""
    return tuple(client for client in history.clients if client != gone)


def share_of(answers: Replies, client: str) -> float:
    """Part of the examples of a round that were a client's; 0 where it was absent."""
    if client not in answers:
        return 0.0
    return answers[client].examples / sum(told.examples for told in answers.values())


def joint_change(history: Rounds, answers: Replies) -> dict[str, Tensor]:
    """What answers change by the rule that the federation learned by; of the mean: their mean.

    Args:
        history: gives the rule.
        answers: at least one.
    """
    first = answers[min(answers)].delta
    return history.combine({name: torch.zeros_like(tensor) for name, tensor in first.items()}, answers)


def contribution(history: Rounds, gone: str) -> dict[str, Tensor]:
    """Σ_j p_u^j U_u^j: all that a client's updates moved the global weights by, directly; summed in fp64."""
    total = {name: torch.zeros_like(tensor, dtype=torch.float64) for name, tensor in history.start.items()}
    for stored in rounds_of(history):
        if gone in stored.told:
            share, delta = share_of(stored.told, gone), stored.told[gone].delta
            total = {name: tensor + share * delta[name].double() for name, tensor in total.items()}
    return {name: tensor.float() for name, tensor in total.items()}


def without_asking(weights: Weights) -> Procedure:
    """A procedure of no round: what an eraser that asks nobody returns."""
    yield from ()
    return weights
