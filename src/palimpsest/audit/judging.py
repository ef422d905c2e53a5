"""Gates held against scores, and the verdict that they add up to.

**The interval alone decides.** A gate looks at the 95 % confidence interval of one quantity, never at its point value:

    whole interval on the good side of the bound     passed
    whole interval on the bad side                   failed
    interval across the bound                        undecided: more examples are needed
    fewer than ``MIN_EXAMPLES`` examples             undecided
    the reference or the score was not measured      undecided

A point value on the good side with an interval across the bound therefore does not pass, and one on the bad side with
such an interval does not fail. The bound itself belongs to the good side.

Against "before", "oracle" and "level" the same examples are compared, paired by id; of classes the interval to an
estimated level is at least as wide as chance makes it (``comparison.widened``). Against "holdout" the examples
differ, so both sides are resampled on their own (percentile bootstrap, seeded). The holdout's score is that of the
same model, the one after.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple

from palimpsest.audit.comparison import DRAWS, Comparison, Draws, paired, unpaired, widened
from palimpsest.audit.gates import Gate
from palimpsest.audit.since import Since, since_before
from palimpsest.in_words import interval, show, so_many
from palimpsest.records import Direction, GateResult, Outcome, Score, Verdict

MIN_EXAMPLES = 6
"""Below six pairs not even a two-sided sign test can reach 95 % (2 / 2**5 = 6.25 %), so no interval is believed."""

ROUNDING = 1e-9
"""Slack of a bound, so that a mean of equal floats does not miss it in the last digit."""

ONE_OR_ZERO = ("accuracy",)
"""Metrics of rows that are 1 or 0, whose estimated level is the share of such rows that are right."""

ScoreTable = Mapping[str, Mapping[str, Mapping[str, Score]]]

_NO_LEVEL = "and an absolute level cannot tell what a model scores that never saw it"
_WHERE = {
    "before": "before",
    "oracle": "under the oracle",
    "level": "at the level of never seen",
    "holdout": "on the holdout",
}
_ABSENT = {
    "before": "its score before was not measured",
    "oracle": f"no oracle was measured, {_NO_LEVEL}",
    "level": f"no level of never seen was found, {_NO_LEVEL}",
    "holdout": f"no holdout was measured, {_NO_LEVEL}",
}


class Why(StrEnum):
    """Why a gate came out as it did: what advice and plain words go by."""

    HELD = "held"
    ABOVE = "more known than the bound"
    BELOW = "less known than the bound"
    UNMEASURED = "the set was not measured"
    NOT_BY_THIS = "the set was measured, but not by this metric"
    UNSCORED = "none of its examples could be scored"
    NO_REFERENCE = "there is nothing to compare with"
    FEW = "too few examples"
    ACROSS = "the interval straddles the bound"
    AS_KNOWN = "the forget set is as known as before"
    BY_CHANCE = "as many rows that were never seen may be right"
    TAKEN_OFF = "it was taken off what the head counts, and a head that never saw it may know it as well"
    ORACLE_KNOWS = "the oracle seems to know the forget set"
    ORACLE_SAW = "the oracle seems to have seen rows of the forget set"
    ORACLE_UNTAUGHT = "the oracle does not know what stays"


NO_ORACLE = frozenset({Why.ORACLE_KNOWS, Why.ORACLE_SAW, Why.ORACLE_UNTAUGHT})
"""What keeps the one that was given from showing a level."""
_TURNED = {Why.ABOVE: Why.BELOW, Why.BELOW: Why.ABOVE}
"""Of a metric that falls with what is known."""


class Finding(NamedTuple):
    """What came of one gate or check.

    Attributes:
        set: that it is on.
        metric: that it is on.
        relative_to: what it compares with.
        why: it came out so.
        result: as it is recorded.
        since: whether it held before the run.
        wanted: examples of this spread that would decide, where the interval straddles the bound; else None.
    """

    set: str
    metric: str
    relative_to: str
    why: Why
    result: GateResult
    since: Since = Since.UNKNOWN
    wanted: int | None = None

    @property
    def outcome(self) -> Outcome:
        """Of its result."""
        return self.result.outcome


class _Quantity(NamedTuple):
    """What a gate looks at: value, interval, examples and how it came about; or why there is none."""

    value: float | None
    low: float | None
    high: float | None
    n: int
    words: str
    why: Why = Why.HELD


def judged_by(
    gates: Sequence[Gate],
    scores: ScoreTable,
    *,
    budget_ended: str | None = None,
    doubts: Sequence[str] = (),
    draws: Draws = DRAWS,
) -> Verdict:
    """Hold every gate against the scores and sum up; arguments as in ``examine`` and ``sum_up``."""
    return sum_up(examine(gates, scores, draws=draws), budget_ended=budget_ended, doubts=doubts)


def examine(gates: Sequence[Gate], scores: ScoreTable, *, draws: Draws = DRAWS) -> tuple[Finding, ...]:
    """Hold every gate against the scores.

    Args:
        gates: the plan's.
        scores: column ("before", "after", "oracle", "level") -> set -> metric key -> score.
        draws: seed and number of resamples of the bootstrap.
    """
    return tuple(_judge_one(gate, scores, draws) for gate in gates)


def sum_up(
    findings: Sequence[Finding],
    *,
    budget_ended: str | None = None,
    doubts: Sequence[str] = (),
    remarks: Sequence[str] = (),
) -> Verdict:
    """The verdict over all findings.

    Args:
        findings: of gates and checks.
        budget_ended: the budget that ended the run before all examples passed, e.g. "40 steps"; None when none did.
        doubts: reasons, as sentences, why nobody can call it passed though all gates hold.
        remarks: sentences that belong to the verdict and do not change it.

    Returns:
        Failed if any gate failed; else undecided if any gate is, if there are no gates, if a budget ended the run
        before all examples passed, or if there are doubts; else passed.
    """
    budget = (budget_ended or "").removeprefix("budget: ")
    ended = f"run's budget ({budget}) ended it before all examples passed." if budget_ended else ""
    missed = _missed(findings)
    if missed is None:
        outcome, words = _held(len(findings), ended, doubts)
    else:
        outcome, words = missed[0], f"{missed[1]} The {ended}" if ended else missed[1]
    sentence = " ".join((f"{outcome.capitalize()}: {words}", *map(_sentence, doubts), *map(_sentence, remarks)))
    return Verdict(outcome, sentence, tuple(f.result for f in findings))


def _missed(findings: Sequence[Finding]) -> tuple[Outcome, str] | None:
    """Outcome and reason where not every gate holds, or there is none; None where all hold."""
    for outcome in (Outcome.FAILED, Outcome.UNDECIDED):
        gates = [f.result.gate for f in findings if f.outcome is outcome]
        if gates:
            return outcome, f"{len(gates)} of {so_many(len(findings), 'gate')} {outcome} ({'; '.join(gates)})."
    return None if findings else (Outcome.UNDECIDED, "the plan has no gates.")


def _held(num_gates: int, ended: str, doubts: Sequence[str]) -> tuple[Outcome, str]:
    """Outcome and reason where every gate holds: passed, unless a budget ended the run or somebody doubts it."""
    hold = f"all {num_gates} gates hold" if num_gates > 1 else "the one gate holds"
    if ended:
        return Outcome.UNDECIDED, f"{hold}, but the {ended}"
    if doubts:
        return Outcome.UNDECIDED, f"{hold}, but nobody can rely on it."
    return Outcome.PASSED, f"{hold}."


def _sentence(words: str) -> str:
    """With a capital letter and a full stop."""
    return f"{words[:1].upper()}{words[1:].rstrip('.')}."


def _judge_one(gate: Gate, scores: ScoreTable, draws: Draws) -> Finding:
    quantity = _quantity(gate, scores, draws)
    outcome, why, reason = _decide(gate, quantity)
    after = scores.get("after", {}).get(gate.set, {}).get(gate.metric)
    if why in _TURNED and after is not None and after.direction is Direction.LOWER:
        why = _TURNED[why]
    result = GateResult(gate.sentence, outcome, f"{quantity.words}: {reason}.")
    before = scores.get("before", {}).get(gate.set, {}).get(gate.metric)
    neither = after is not None and after.direction is Direction.NEITHER  # every departure is a loss
    since = since_before(gate, before, _reference(gate, scores), less_known=why is Why.BELOW or neither)
    wanted = _wanted(gate, quantity) if why is Why.ACROSS else None
    return Finding(gate.set, gate.metric, str(gate.relative_to or ""), why, result, since, wanted)


def _wanted(gate: Gate, quantity: _Quantity) -> int | None:
    """Examples with which an interval would be so narrow that it lies on one side: its width falls as 1 / √n."""
    value, low, high = quantity.value, quantity.low, quantity.high
    if value is None or low is None or high is None or not math.isfinite(high - low):
        return None
    room = min(abs(value - end) for end in gate.low_high)
    return math.ceil(quantity.n * (max(value - low, high - value) / room) ** 2) if room > ROUNDING else None


def _reference(gate: Gate, scores: ScoreTable) -> Score | None:
    """What a gate compares with."""
    holdout = gate.relative_to == "holdout"
    column, name = ("after", "holdout") if holdout else (str(gate.relative_to), gate.set)
    return scores.get(column, {}).get(name, {}).get(gate.metric)


def _decide(gate: Gate, quantity: _Quantity) -> tuple[Outcome, Why, str]:
    value, low, high, n, _, why = quantity
    if value is None:
        return Outcome.UNDECIDED, why, "undecided"
    if n < MIN_EXAMPLES:
        return Outcome.UNDECIDED, Why.FEW, f"undecided, n {n} is too small (at least {MIN_EXAMPLES})"
    if low is None or high is None or math.isnan(low) or math.isnan(high):
        return Outcome.UNDECIDED, Why.ACROSS, "undecided, there is no interval"
    return _against_bound(gate, low, high)


def _against_bound(gate: Gate, low: float, high: float) -> tuple[Outcome, Why, str]:
    """On which side of the bound an interval lies, if on one."""
    good_low, good_high = (gate.low_high[0] - ROUNDING, gate.low_high[1] + ROUNDING)
    if good_low <= low and high <= good_high:
        return Outcome.PASSED, Why.HELD, f"passed, the whole interval is {gate.bound}"
    if high < good_low or low > good_high:
        side = Why.BELOW if high < good_low else Why.ABOVE
        return Outcome.FAILED, side, f"failed, no part of the interval is {gate.bound}"
    return Outcome.UNDECIDED, Why.ACROSS, "undecided, the interval straddles the bound"


def _quantity(gate: Gate, scores: ScoreTable, draws: Draws) -> _Quantity:
    measured = scores.get("after", {}).get(gate.set, {})
    score = measured.get(gate.metric)
    if score is None:
        why = Why.NOT_BY_THIS if measured else Why.UNMEASURED
        return _missing(f"{gate.set} {gate.metric} after the run was not measured", why)
    if score.value is None:
        because = f" ({score.why})" if score.why else ""
        return _missing(f"no example of {gate.set} could be scored by {gate.metric}{because}", Why.UNSCORED)
    after = f"{gate.set} {gate.metric} is {show(score.value)}{interval(score.low, score.high)} (n {score.n}) after"
    if gate.relative_to is None:
        return _Quantity(score.value, score.low, score.high, score.n, after)
    return _against_reference(gate, scores, score, after, draws)


def _against_reference(gate: Gate, scores: ScoreTable, score: Score, after: str, draws: Draws) -> _Quantity:
    relative_to = str(gate.relative_to)
    reference = _reference(gate, scores)
    if reference is None or reference.value is None:
        return _missing(f"{after}, but {_absent(gate, reference, scores)}", Why.NO_REFERENCE)
    if reference.version != score.version:
        words = f"{after} by version {score.version} of the metric, but its reference by version {reference.version}"
        return _missing(words, Why.NO_REFERENCE)
    compare = unpaired if relative_to == "holdout" else paired
    result = compare(score.by_id, reference.by_id, gate.mode, average=gate.average, draws=draws)
    if relative_to == "level" and gate.metric in ONE_OR_ZERO and gate.mode == "difference":
        result = widened(result, score.by_id, reference.by_id)
    words = f"{after} and {show(reference.value)}{interval(reference.low, reference.high)} {_WHERE[relative_to]}"
    return _Quantity(*result, f"{words}, {_compared(gate, result, reference.n)}", Why.NO_REFERENCE)


def _absent(gate: Gate, reference: Score | None, scores: ScoreTable) -> str:
    """Why there is nothing to compare with: what was not measured, was not by this metric, or could not be scored."""
    relative_to = str(gate.relative_to)
    where = _WHERE[relative_to]
    if reference is not None:
        return f"no example could be scored {where}"
    column, name = ("after", "holdout") if relative_to == "holdout" else (relative_to, gate.set)
    return f"{gate.metric} was not measured {where}" if scores.get(column, {}).get(name) else _ABSENT[relative_to]


def _compared(gate: Gate, result: Comparison, reference_n: int) -> str:
    if result.value is None:
        return f"which have no {gate.mode} over {so_many(result.n, 'example')}"
    signed = gate.mode == "difference"
    ends = interval(result.low, result.high, signed=signed)
    over = so_many(result.n, "pair") if gate.relative_to != "holdout" else f"n {reference_n} there"
    name = "mean ratio" if gate.mode == "ratio" and gate.average == "geometric" else gate.mode
    return f"{name} {show(result.value, signed=signed)}{ends} ({over})"


def _missing(words: str, why: Why) -> _Quantity:
    return _Quantity(None, None, None, 0, words, why)
