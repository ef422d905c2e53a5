"""Power of the membership attack on entropy: can it tell what was learned from what was not at all?

Source: Brodersen et al. 2010, The balanced accuracy and its posterior distribution, ICPR.

    power = (share of members called members + share of non-members called non-members) / 2

of the attack of ``entropy_attack.py``, on the examples it was fitted to; 0.5 tells nothing, and then ``mia_entropy``
says nothing either.

By hand: members at entropy 0 and 1, others at 6 and 7: all four on their side, 1; members and others alike: 1/2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from palimpsest.metrics.per_set import SetMetric
from palimpsest.metrics.per_set.entropy_attack import SETS, mia_entropy
from palimpsest.records import Score

if TYPE_CHECKING:
    from palimpsest.metrics.per_set import Columns


class MIAPower(SetMetric):
    """Balanced accuracy of the attack on the members and non-members it was fitted to."""

    needs = SETS
    column = "MIA power"
    means = "How well the attack on prediction entropy tells retained training data from test data; 0.5 is not at all."
    unit = "balanced accuracy"
    version = 1

    def compute(self, columns: Columns, *, seed: int = 0) -> Score:
        """The attack on one model."""
        members, nonmembers, forget = (columns[name] for name in SETS)
        return self.score(mia_entropy(members, nonmembers, forget, seed=seed).power, len(members) + len(nonmembers))


SET_METRIC = MIAPower
