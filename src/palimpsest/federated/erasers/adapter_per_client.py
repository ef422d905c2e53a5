"""An adapter for every client: each learns alone from the same start; who goes takes its own along.

Source: the decomposition family of federated unlearning, arXiv:2406.09831, and SISA, Bourtoule et al. 2021,
arXiv:1912.03817, with a shard for each client; known from notes on both.

    U_k = what client k learns from w₀, alone, in all its epochs
    w = w₀ + s Σ_k U_k           "sum": s = 1;    "mean": by the shares of the examples
    w̃ = w₀ + s Σ_{k≠u} U_k

Nobody's answer depends on who else is there, and the sum is taken anew over those who stay, never by a subtraction: the
result has the bits of a federation that the client never was in. What the clients never did is learn from each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from palimpsest.companions.round_record import Replies, Weights
from palimpsest.errors import PlanError
from palimpsest.federated.averaging import mean_delta, weights_after
from palimpsest.federated.erasers.history import kept_of
from palimpsest.federated.procedure import Eraser, Errand, Procedure, Rounds

APART_ROUNDS = 10
"""Rounds' worth of epochs that each client learns, where no number is given."""

Combination = Literal["mean", "sum"]


def united(start: Weights, answers: Replies, how: Combination) -> Weights:
    """The start, moved by all adapters; the start itself where there is none."""
    if not answers:
        return dict(start)
    if how == "sum":
        answers = {client: told._replace(examples=1) for client, told in answers.items()}
        return weights_after(start, mean_delta(answers), len(answers))
    return weights_after(start, mean_delta(answers))


@dataclass(frozen=True)
class AdapterPerClient(Eraser):
    """Each client's own adapter.

    Attributes:
        how: the adapters' mean, or their sum.
    """

    how: Combination = "mean"

    name = "adapter_per_client"
    source = "arXiv:2406.09831, decomposition; Bourtoule et al. 2021, arXiv:1912.03817"
    use_when = "erasure must be exact and immediate, and the clients need not learn from each other"
    exact = True
    guarantee = "Exact: the bits of a federation that the client never was in"
    learns_apart = True

    def learn(self, start: Weights, names: tuple[str, ...], epochs: float, rounds: int | None) -> Procedure:
        """One round, in which every client learns for all rounds."""
        answers = yield Errand(start, names, epochs * (APART_ROUNDS if rounds is None else rounds), loss=False)
        return united(start, answers, self.how)

    def erase(self, history: Rounds, gone: str) -> Procedure:
        """Unite the others.

        Raises:
            PlanError: the clients learned from each other.
        """
        if len(history) != 1:
            raise PlanError(
                f"{self.name} cannot erase from a federation of {len(history)} rounds, in which clients learned from "
                f"each other; accepted: one that learned apart (run --for {self.name})"
            )
        kept = kept_of(history[0], gone)
        return united(history.start, (yield Errand(history.start, tuple(kept), known=kept)), self.how)


ERASER = AdapterPerClient()
