"""Did the oracle see single rows of the forget set? Then its level is too high, and a run may pass that kept them.

An oracle that saw none of the n forget rows knows them no better than the h rows of the holdout: of both together, the
k it knows best are all forget rows with probability

    p(k) = C(n, k) / C(n + h, k) = Π_{i<k} (n − i) / (n + h − i)

**Seen.** k counts rows that the oracle scores by more than ``SAME`` = 0.10 above every row of the holdout, and by less
than that below the model before: rows that it knows as the model does that learned them. They are no more than those
above the holdout, so p(k) is an upper bound. Below ``SELDOM`` the oracle seems to have seen them. A row that repeats
what stays looks like that, too: of six rows two are enough beside a holdout of 50, one only beside 595.

Source: our own; p(k) is the exact permutation test of the k largest (Fisher 1935, "The Design of Experiments").
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from palimpsest.audit.gates import SAME
from palimpsest.audit.judging import ScoreTable
from palimpsest.models.families.yardsticks import BY_TOKENS, Judging

SELDOM = 0.01


def chance_of_best(best: int, rows: int, others: int) -> float:
    """p(k): that the k best of n + h rows are all of the n.

    Args:
        best: k, at most n.
        rows: n.
        others: h.

    >>> chance_of_best(0, 6, 60), round(chance_of_best(2, 6, 60), 4)
    (1.0, 0.007)
    """
    return math.prod(((rows - i) / (rows + others - i) for i in range(best)), start=1.0)


def rows_seen(scores: ScoreTable, *, judging: Judging = BY_TOKENS) -> tuple[int, int] | None:
    """How many of how many forget rows the oracle seems to have seen; None where nothing says that it saw any.

    Args:
        scores: column ("before", "oracle") -> set ("forget", "holdout") -> metric key -> score.
        judging: of the family of the model; its first metric decides.
    """
    metric = judging.gated[0]
    before, oracle = (_known(scores, column, "forget", metric) for column in ("before", "oracle"))
    unseen = _known(scores, "oracle", "holdout", metric)
    rows = before.keys() & oracle.keys()
    if not rows or not unseen:
        return None
    best = max(unseen.values())
    seen = sum(oracle[i] > best + SAME and oracle[i] > before[i] - SAME for i in rows)
    return (seen, len(rows)) if chance_of_best(seen, len(rows), len(unseen)) < SELDOM else None


def _known(scores: ScoreTable, column: str, name: str, metric: str) -> Mapping[str, float]:
    score = scores.get(column, {}).get(name, {}).get(metric)
    return {} if score is None else {i: value for i, value in score.by_id.items() if value is not None}
