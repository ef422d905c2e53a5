"""Membership inference by prediction entropy: how much of the forget set still looks like training data.

Source: as released with SFR-on (Huang et al. 2024, arXiv:2409.19732), after Chundawat et al. 2022, arXiv:2205.08096.

    MIA = share of the forget set that the attack of ``entropy_attack.py`` calls members

Neither higher nor lower is better: it is to be compared with the oracle's value.

By hand: members at entropy 0 and 1, others at 6 and 7: the border lies at 3.5; of forget examples at 2 and 5 one is
called a member: 1/2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from palimpsest.metrics.per_set import SetMetric
from palimpsest.metrics.per_set.entropy_attack import SETS, mia_entropy
from palimpsest.records import Score

if TYPE_CHECKING:
    from palimpsest.metrics.per_set import Columns


class MIAEntropy(SetMetric):
    """Share of the forget set called members, with a bootstrap interval over it."""

    needs = SETS
    column = "MIA"
    means = "The share of the forget set that an attack on prediction entropy takes for training data."
    unit = "share of examples"
    version = 1

    def compute(self, columns: Columns, *, seed: int = 0) -> Score:
        """The attack on one model."""
        found = mia_entropy(*(columns[name] for name in SETS), seed=seed)
        return self.score(found.share, found.n, (found.low, found.high))


SET_METRIC = MIAEntropy
