"""Extra rounds: go on learning without the client. A control: what forgets by itself when a client only leaves.

Source: none; the usual control (what is not rehearsed may be overwritten, and mostly is not).

    w̃ = FedAvg(w_T, clients without u, a few rounds)
"""

from __future__ import annotations

from pydantic import Field

from palimpsest.federated.erasers.history import staying
from palimpsest.federated.fed_avg import fed_avg
from palimpsest.federated.procedure import Eraser, Procedure, Rounds
from palimpsest.method_card import Config


class ExtraRoundsConfig(Config):
    """Options of the further rounds."""

    rounds: int = Field(default=5, ge=1)
    """How many."""


class ExtraRounds(Eraser):
    """Further rounds."""

    Config = ExtraRoundsConfig
    name = "extra_rounds"
    from_start = False
    source = "none: a control"
    use_when = "you want to see what happens if a client simply leaves. Not to erase"
    guarantee = "None: nothing is taken out"
    any_rule = True

    def erase(self, history: Rounds, gone: str) -> Procedure:
        """Go on from the weights of now."""
        return fed_avg(history.final, staying(history, gone), history.epochs, self.config.rounds, history.combine)


ERASER = ExtraRounds
