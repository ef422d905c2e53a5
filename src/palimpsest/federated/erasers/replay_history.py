"""Replay: add up what the others once answered, without asking anybody. A control: what FedEraser calibrates away.

Source: none; the control beside FedEraser.

    w̃ = w₀ + Σ_j Σ_{k≠u} p_k U_k^j

The answers of later rounds were given at weights that the client had moved, and do not fit where it did not.
"""

from __future__ import annotations

from palimpsest.companions.round_record import Weights
from palimpsest.federated.erasers.history import kept_of, rounds_of, without_asking
from palimpsest.federated.procedure import Eraser, Procedure, Rounds


def replayed_weights(history: Rounds, gone: str) -> Weights:
    """The start, moved by the stored answers of the others."""
    weights: Weights = dict(history.start)
    for stored in rounds_of(history):
        weights = history.combine(weights, kept_of(stored, gone))
    return weights


class ReplayHistory(Eraser):
    """The others' stored updates, as they are."""

    name = "replay_history"
    source = "none: a control"
    use_when = "you want to see what calibration is for. Not to erase: the updates fit other weights"
    guarantee = "None: the others' updates were learned beside the client"
    any_rule = True

    def erase(self, history: Rounds, gone: str) -> Procedure:
        """Ask nobody."""
        return without_asking(replayed_weights(history, gone))


ERASER = ReplayHistory
