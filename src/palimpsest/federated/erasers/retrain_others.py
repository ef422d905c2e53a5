"""Retrain: federated learning from the same start without the client. The yardstick that the others are held against.

Source: none; the definition of exact erasure: what the same procedure gives where the client never was.

    w̃ = FedAvg(w₀, clients without u, as many rounds and epochs as before)

It is exact where the local work draws its random numbers by client and round, which the driver's does, and where the
federation learned by federated averaging.
"""

from __future__ import annotations

from palimpsest.federated.erasers.history import staying
from palimpsest.federated.fed_avg import fed_avg
from palimpsest.federated.procedure import Eraser, Procedure, Rounds


class RetrainOthers(Eraser):
    """Federated averaging once more."""

    name = "retrain_others"
    source = "none: the definition"
    use_when = "erasure must be exact, the federation learned by averaging, and the time of all rounds is there"
    exact = True
    guarantee = "Exact: the bits of a federation of so many rounds that the client never was in"
    needs = ()
    any_rule = True

    def erase(self, history: Rounds, gone: str) -> Procedure:
        """As many rounds as there were."""
        return fed_avg(history.start, staying(history, gone), history.epochs, len(history), history.combine)


ERASER = RetrainOthers
