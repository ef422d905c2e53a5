"""Is the forget set still as known as before? Does the oracle know it? Checks that no plan can leave out.

**As known as before.** Forgetting that changed nothing is told from the scores before and after alone, so it needs no
oracle. A metric that was known before is *as known as before* when the 95 % interval of its paired drop
(before − after, by id) lies below ``SAME`` = 0.10, the bound within which all gates on the forget set call two scores
the same: an equivalence test. Below ``MIN_EXAMPLES`` examples no interval is believed; the range over the rows stands
in for it, so *every* row must have dropped by less. All metrics that were known as known as before: failed. One has
dropped by at least 0.10, or is at the level of never seen: passed. Else undecided.

**By chance.** Of rows that are right or wrong an estimated level is a share p that is right unseen. Where all are right
and chance alone may make so few of them all right (``comparison.widened``), failed becomes undecided.

**Known before.** A metric was not known when it stood, before, at most 0.10 above the level of never seen: the
oracle's, else the estimated level, else the holdout's. With none of them, when extraction strength (of images:
accuracy) was at most 0.10: no level is below 0. A metric that the level lacks (of classes it has accuracy alone) shows
nothing by itself. What was not known cannot be forgotten, and is never called a failure.

**The oracle knows.** An oracle whose mean scores on the forget set are all less than ``SAME`` below those of the model
before has seen the forget set, or the set was never known. Nobody can tell which, so the run is undecided, unless the
estimated level, the holdout or an extraction strength at most 0.10 shows that it was never known. (Here the means
decide, not an interval: an oracle must earn its trust.) Single rows that it saw are looked for in ``oracle_saw.py``,
and what it must know in ``oracle_taught.py``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from palimpsest.audit.comparison import DRAWS, Comparison, Draws, paired, unpaired, widened
from palimpsest.audit.gates import SAME
from palimpsest.audit.judging import MIN_EXAMPLES, NO_ORACLE, ONE_OR_ZERO, ROUNDING, Finding, ScoreTable, Why
from palimpsest.audit.oracle_saw import rows_seen
from palimpsest.audit.oracle_taught import untaught
from palimpsest.in_words import interval, show
from palimpsest.models.families.yardsticks import BY_TOKENS, Judging
from palimpsest.records import Direction, GateResult, Outcome, Score

_FORGET = "forget"
STILL = "forget is less known than before"
ORACLE = "the oracle does not know forget"


class _Range(NamedTuple):
    """A difference and the ends of its 95 % interval, or of the rows' own differences where they are few."""

    value: float
    low: float
    high: float


def known_checks(scores: ScoreTable, *, judging: Judging = BY_TOKENS, draws: Draws = DRAWS) -> tuple[Finding, ...]:
    """The check that the forget set is less known than before, and, where one fires, one of those on the oracle.

    Args:
        scores: column ("before", "after", "oracle", "level") -> set -> metric key -> score.
        judging: of the family of the model.
        draws: of the bootstrap.
    """
    metrics = _metrics(scores, judging)
    if not metrics:
        words = "no metric of the forget set that rises with what is known was measured before and after: undecided."
        why = Why.NOT_BY_THIS if scores.get("after", {}).get(_FORGET) else Why.UNMEASURED
        wanted = judging.known_by[0]
        return (_finding(STILL, Outcome.UNDECIDED, why, words)._replace(metric=wanted),)
    shady = _oracle_knows(scores, metrics, draws)
    other = _seen_finding(scores, judging) or untaught(scores, judging=judging, draws=draws)
    checks = [_still_known(scores, metrics, knows=shady, trusts_oracle=not shady and other is None, draws=draws)]
    if shady:
        checks.append(_oracle_finding(scores, metrics))
    elif other is not None:
        checks.append(other)
    return tuple(checks)


def distrusting(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Findings as they are; where the oracle shows no level, what was held against it is undecided."""
    doubt = next((f.why for f in findings if f.why in NO_ORACLE), None)
    if doubt is None:
        return tuple(findings)
    return tuple(_void(f, doubt) if f.relative_to == "oracle" and f.set == _FORGET else f for f in findings)


def counted_no_more(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Findings of rows that were taken off a head's counts: that they are as known as before is no failure then.

    What is left has the bits of a head that never saw them, and such a head names many of them from what stays.
    """
    return tuple(_void(f, Why.TAKEN_OFF) if f.why is Why.AS_KNOWN else f for f in findings)


def _void(finding: Finding, why: Why) -> Finding:
    words = f"{finding.result.sentence.rpartition(':')[0]}: undecided, {why}."
    result = GateResult(finding.result.gate, Outcome.UNDECIDED, words)
    return finding._replace(why=why, result=result)


def _metrics(scores: ScoreTable, judging: Judging) -> tuple[str, ...]:
    """What to look at of the forget set: es and ma, of classes accuracy and prob; else any share that was measured."""
    both = [scores.get(column, {}).get(_FORGET, {}) for column in ("before", "after")]
    usable = [
        m for m in both[0] if _usable(both[0], m) and _usable(both[1], m) and both[0][m].direction is Direction.HIGHER
    ]
    usual = tuple(m for m in judging.known_by if m in usable)
    return usual or tuple(usable)


def _usable(metrics: Mapping[str, Score], metric: str) -> bool:
    return metric in metrics and metrics[metric].value is not None


def _still_known(
    scores: ScoreTable, metrics: tuple[str, ...], *, knows: bool, trusts_oracle: bool, draws: Draws
) -> Finding:
    source = _source(scores, metrics, trusts_oracle=trusts_oracle)
    known = _known(scores, metrics, "before", source, draws)
    if not _compared(scores, known, "before", source, draws):
        words = f"{_before_after(scores, metrics)}: passed, it was not known before, so there was nothing to forget."
        return _finding(STILL, Outcome.PASSED, Why.HELD, words)
    drops = {m: _difference(scores, m, ("before", _FORGET), ("after", _FORGET), draws) for m in known}
    left = _known(scores, known, "after", source, draws)
    outcome, why, said = _told_by(drops, left, nothing_else=knows and source is None)
    if outcome is Outcome.FAILED and _by_chance(scores, known, source, draws):
        outcome, why = Outcome.UNDECIDED, Why.BY_CHANCE
        said = "undecided, it is as known as before, and so many rows that were never seen may be right by chance"
    return _finding(STILL, outcome, why, f"{_before_after(scores, known, drops)}: {said}.")


def _told_by(
    drops: Mapping[str, _Range | None], left: tuple[str, ...], *, nothing_else: bool
) -> tuple[Outcome, Why, str]:
    """What the drops say.

    Args:
        drops: of each metric that was known.
        left: those that are still above the level of never seen.
        nothing_else: there is no such level but that of an oracle that seems to know the forget set.
    """
    fell = [m for m, d in drops.items() if m not in left or (d is not None and d.low >= SAME - ROUNDING)]
    if fell:
        return Outcome.PASSED, Why.HELD, f"passed, {' and '.join(fell)} fell"
    if any(d is None or d.high >= SAME for d in drops.values()):
        return Outcome.UNDECIDED, Why.ACROSS, f"undecided, the drop may be {show(SAME)}"
    if nothing_else:
        said = "undecided, it is as known as before, and so it is under the oracle"
        return Outcome.UNDECIDED, Why.ORACLE_KNOWS, said
    said = f"failed, the forget set is as known as before, no drop reaches {show(SAME)}"
    return Outcome.FAILED, Why.AS_KNOWN, said


def _oracle_knows(scores: ScoreTable, metrics: tuple[str, ...], draws: Draws) -> bool:
    """Does the oracle answer the forget set as the model before does, though the set was known, as far as one sees?"""
    gaps = [_difference(scores, m, ("before", _FORGET), ("oracle", _FORGET), draws) for m in metrics]
    if any(gap is None or gap.value >= SAME for gap in gaps):
        return False
    return bool(_known(scores, metrics, "before", _source(scores, metrics, trusts_oracle=False), draws))


def _source(scores: ScoreTable, metrics: tuple[str, ...], *, trusts_oracle: bool) -> str | None:
    """Where the level of never seen is taken from: the best column or set there is."""
    sources = {"oracle": ("oracle", _FORGET), "level": ("level", _FORGET), "holdout": ("after", "holdout")}
    for source, (column, name) in sources.items():
        there = scores.get(column, {}).get(name, {})
        if (source != "oracle" or trusts_oracle) and any(_usable(there, m) for m in metrics):
            return source
    return None


def _known(
    scores: ScoreTable, metrics: tuple[str, ...], column: str, source: str | None, draws: Draws
) -> tuple[str, ...]:
    """The metrics whose score in a column is not shown to be at the level of never seen."""
    if source is None:
        return _above_floor({m: scores[column][_FORGET][m].value or 0.0 for m in metrics})
    found = []
    for metric in metrics:
        above = _over(scores, metric, column, source, draws)
        if above is None or above.high > SAME + ROUNDING:
            found.append(metric)
    return tuple(found)


def _compared(
    scores: ScoreTable, known: tuple[str, ...], column: str, source: str | None, draws: Draws
) -> tuple[str, ...]:
    """Those of the known metrics that the level of never seen has: one that it lacks shows no knowledge by itself."""
    return tuple(m for m in known if source is None or _over(scores, m, column, source, draws) is not None)


def _over(scores: ScoreTable, metric: str, column: str, source: str, draws: Draws) -> _Range | None:
    """A metric of the forget set above its level of never seen; None where that lacks it."""
    level = (column, "holdout") if source == "holdout" else (source, _FORGET)
    found = _difference(scores, metric, (column, _FORGET), level, draws)
    if found is None or source != "level" or metric not in ONE_OR_ZERO:
        return found
    sides = [scores[name][_FORGET][metric].by_id for name in (column, source)]
    wide = widened(Comparison(*found, len(sides[0])), *sides)
    return found if wide.low is None or wide.high is None else found._replace(low=wide.low, high=wide.high)


def _by_chance(scores: ScoreTable, known: tuple[str, ...], source: str | None, draws: Draws) -> bool:
    """May rows that were never seen be right as often as those that must go are, of all metrics that have a level?"""
    if source != "level" or not set(known) & set(ONE_OR_ZERO):
        return False
    above = [_over(scores, metric, "before", source, draws) for metric in known]
    return all(found is None or found.low <= ROUNDING for found in above)


def _above_floor(values: Mapping[str, float]) -> tuple[str, ...]:
    """What counts as known where only the floor is known: all but what decides and is at it; nothing if all is."""
    deciding = [m for m in values if m in ("es", "accuracy")] or list(values)
    at_floor = [m for m in deciding if values[m] <= SAME + ROUNDING]
    return () if len(at_floor) == len(deciding) else tuple(m for m in values if m not in at_floor)


def _difference(
    scores: ScoreTable, metric: str, one: tuple[str, str], other: tuple[str, str], draws: Draws
) -> _Range | None:
    """One score minus another, each named by (column, set); None where they cannot be compared."""
    a, b = (scores.get(column, {}).get(name, {}).get(metric) for column, name in (one, other))
    if a is None or b is None or a.version != b.version:
        return None
    return _paired_range(a, b, draws) if one[1] == other[1] else _unpaired_range(a, b, draws)


def _unpaired_range(a: Score, b: Score, draws: Draws) -> _Range | None:
    """Of different examples; where they are few, no more than the value itself."""
    value, low, high, n = unpaired(a.by_id, b.by_id, "difference", draws=draws)
    if value is None:
        return None
    if n < MIN_EXAMPLES or low is None or high is None:
        return _Range(value, value, value)
    return _Range(value, low, high)


def _paired_range(a: Score, b: Score, draws: Draws) -> _Range | None:
    """Of the same examples; where they are few, the range over them."""
    pairs = [(x, b.by_id.get(key)) for key, x in a.by_id.items()]
    rows = [x - y for x, y in pairs if x is not None and y is not None]
    if not rows:
        return None
    result = paired(a.by_id, b.by_id, "difference", draws=draws)
    if len(rows) < MIN_EXAMPLES or result.value is None or result.low is None or result.high is None:
        return _Range(sum(rows) / len(rows), min(rows), max(rows))
    return _Range(result.value, result.low, result.high)


def _before_after(scores: ScoreTable, metrics: tuple[str, ...], drops: dict[str, _Range | None] | None = None) -> str:
    said = []
    for metric in metrics:
        before, after = (scores[column][_FORGET][metric].value or 0.0 for column in ("before", "after"))
        drop = (drops or {}).get(metric)
        fall = f" (drop {show(drop.value, signed=True)}{interval(drop.low, drop.high, signed=True)})" if drop else ""
        said.append(f"{metric} {show(before)} before and {show(after)} after{fall}")
    n = min(scores["after"][_FORGET][m].n for m in metrics)
    return f"forget {', '.join(said)}, n {n}"


def _oracle_finding(scores: ScoreTable, metrics: tuple[str, ...]) -> Finding:
    values = {m: [scores[column][_FORGET][m].value or 0.0 for column in ("oracle", "before")] for m in metrics}
    said = ", ".join(f"{m} {show(oracle)} and {show(before)}" for m, (oracle, before) in values.items())
    words = (
        f"the oracle answers the forget set as well as the model before ({said}): undecided, it seems to know the "
        "forget set, or the set was never known."
    )
    return _finding(ORACLE, Outcome.UNDECIDED, Why.ORACLE_KNOWS, words)


def _seen_finding(scores: ScoreTable, judging: Judging) -> Finding | None:
    seen = rows_seen(scores, judging=judging)
    if seen is None:
        return None
    words = (
        f"the oracle knows {seen[0]} of {seen[1]} forget rows as well as the model before, and better than any row "
        "that nobody saw: undecided, it seems to have seen them."
    )
    return _finding(ORACLE, Outcome.UNDECIDED, Why.ORACLE_SAW, words)


def _finding(gate: str, outcome: Outcome, why: Why, words: str) -> Finding:
    return Finding(_FORGET, "", "", why, GateResult(gate, outcome, words))
