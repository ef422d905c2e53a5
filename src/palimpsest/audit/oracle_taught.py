"""Was the oracle taught what stays? One that was not shows no level, whatever it scores on the forget set.

A model that was never trained, or on half of the rows, or that reads other words, scores less on rows that it never
saw than the model would that was retrained without them: to come down to its level is to forget too much.

**Untaught.** The 95 % interval of the paired gap (model before − oracle, by id) on the retain set, in the metric that
retain must keep, lies above ``SAME`` = 0.10. Below ``MIN_EXAMPLES`` rows nothing is said.
"""

from __future__ import annotations

from palimpsest.audit.comparison import DRAWS, Draws, paired
from palimpsest.audit.gates import SAME
from palimpsest.audit.judging import MIN_EXAMPLES, Finding, ScoreTable, Why
from palimpsest.in_words import show
from palimpsest.models.families.yardsticks import BY_TOKENS, Judging
from palimpsest.records import GateResult, Outcome

_RETAIN = "retain"


def untaught(scores: ScoreTable, *, judging: Judging = BY_TOKENS, draws: Draws = DRAWS) -> Finding | None:
    """A finding where the oracle was not taught what stays; None where it was, or nobody can tell.

    Args:
        scores: column ("before", "after", "oracle", "level") -> set -> metric key -> score.
        judging: of the family of the model.
        draws: of the bootstrap.
    """
    metric = judging.gated[0]
    before, oracle = (scores.get(column, {}).get(_RETAIN, {}).get(metric) for column in ("before", "oracle"))
    if before is None or oracle is None or before.value is None or oracle.value is None:
        return None
    gap = paired(before.by_id, oracle.by_id, "difference", draws=draws)
    if gap.n < MIN_EXAMPLES or gap.low is None or gap.low <= SAME:
        return None
    words = (
        f"the oracle knows less of retain than the model before ({metric} {show(oracle.value)} and "
        f"{show(before.value)}): undecided, it was not trained as the model was."
    )
    result = GateResult("the oracle knows retain", Outcome.UNDECIDED, words)
    return Finding("forget", "", "", Why.ORACLE_UNTAUGHT, result)
