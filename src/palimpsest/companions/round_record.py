"""What one round of federated learning is: the weights before it, each client's answer, and who did not answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor

Weights = Mapping[str, Tensor]
"""Name -> fp32 tensor on the CPU: what is exchanged, in the order of the model. LoRA matrices alone, by default."""


class Reply(NamedTuple):
    """One client's answer.

    Attributes:
        client: its name.
        delta: its weights after the local work less those that it was sent; of statistics, the statistics.
        examples: rows that it worked on.
        loss: mean over its rows at the weights that it was sent, nats; NaN where it was not asked for.
        seconds: of its wall clock.
    """

    client: str
    delta: Weights
    examples: int
    loss: float
    seconds: float


class Absent(NamedTuple):
    """A client that was asked and did not answer.

    Attributes:
        client: its name.
        why: in words, one line.
    """

    client: str
    why: str


Replies = Mapping[str, Reply]
"""Name -> answer, in the order in which the clients were asked; who did not answer is missing."""


class Round(NamedTuple):
    """One round as it was recorded.

    Attributes:
        number: counted from 0.
        weights: that all clients were sent.
        told: their answers.
        combined: what the server made of them: the weights of the next round, or those that it ended with.
        absent: who did not answer, and why.
    """

    number: int
    weights: Weights
    told: Replies
    combined: Weights
    absent: tuple[Absent, ...] = ()
