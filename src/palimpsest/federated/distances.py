"""How far what was exchanged is from what retraining leads to."""

from __future__ import annotations

import math
from typing import NamedTuple

from palimpsest.companions.round_record import Weights
from palimpsest.federated.arithmetic import difference, l2_norm


class Distances(NamedTuple):
    """Distances of exchanged tensors, L2 over all of them.

    Attributes:
        before: of the version with the client from the retrained one.
        after: of the version without it from the retrained one.
        learned: of the retrained one from the start: the scale of all this.
    """

    before: float
    after: float
    learned: float


def distances_between(start: Weights, version: Weights, erased: Weights, retrained: Weights) -> Distances:
    """All distances from the retrained weights; NaN from weights of other names, as a computed head has.

    Args:
        start: weights before the first round.
        version: with the client.
        erased: without it.
        retrained: that never knew it.
    """

    def far(one: Weights) -> float:
        same = {n: t.shape for n, t in one.items()} == {n: t.shape for n, t in retrained.items()}
        return l2_norm(difference(one, retrained)) if same else math.nan

    return Distances(far(version), far(erased), far(start))
