"""Gates: bounds that a run's scores must keep, and the verdict they add up to.

**The interval alone decides.** A gate looks at the 95 % confidence interval of one quantity, never at its point value:

    whole interval on the good side of the bound     passed
    whole interval on the bad side                   failed
    interval across the bound                        undecided: more examples are needed
    fewer than ``MIN_EXAMPLES`` examples             undecided
    the reference or the score was not measured      undecided

A point value on the good side with an interval across the bound therefore does not pass, and one on the bad side with
such an interval does not fail. The bound itself belongs to the good side.

Quantities: the score itself (its own interval); its difference from, or ratio to, a reference. Against "before" and
"oracle" the same examples are compared, paired by id; against "holdout" the examples differ, so both sides are
resampled on their own (percentile bootstrap, seeded). The holdout's score is that of the same model, the one after.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from palimpsest.audit.comparison import DRAWS, Average, Comparison, Draws, Mode, paired, unpaired
from palimpsest.errors import PlanError
from palimpsest.records import GateResult, Outcome, Score, Verdict

MIN_EXAMPLES = 6
"""Below six pairs not even a two-sided sign test can reach 95 % (2 / 2**5 = 6.25 %), so no interval is believed."""

ROUNDING = 1e-9
"""Slack of a bound, so that a mean of equal floats does not miss it in the last digit."""

_WHERE = {"before": "before", "oracle": "under the oracle", "holdout": "on the holdout"}
_ABSENT = {
    "before": "its score before was not measured",
    "oracle": "no oracle was measured, and an absolute level cannot tell what a model scores that never saw it",
    "holdout": "no holdout was measured, and an absolute level cannot tell what a model scores that never saw it",
}

Scores = Mapping[str, Mapping[str, Mapping[str, Score]]]


class Gate(BaseModel):
    """One bound on one quantity. Exactly one of ``at_most``, ``at_least`` and ``within`` is given."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    set: str
    """Set whose score after the run is judged, e.g. "forget"."""
    metric: str
    """Key of the metric, e.g. "es"."""
    at_most: float | None = None
    """Upper bound of the quantity."""
    at_least: float | None = None
    """Lower bound of the quantity."""
    within: float | None = None
    """Bound > 0 of the absolute difference from the reference."""
    relative_to: Literal["before", "oracle", "holdout"] | None = None
    """Reference: the same examples before the run or under the oracle, or the holdout set after the run."""
    mode: Mode = "difference"
    """How the score is compared with the reference."""
    average: Average = "arithmetic"
    """Of a ratio; geometric (each example's own ratio, averaged as logarithms) suits perplexity."""

    @model_validator(mode="after")
    def _one_bound(self) -> Gate:
        given = [name for name in ("at_most", "at_least", "within") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                f"gate on {self.set} {self.metric} has {len(given)} bounds ({', '.join(given) or 'none'}); "
                "accepted: exactly one of at_most, at_least, within"
            )
        if self.relative_to is None and (self.within is not None or self.mode == "ratio"):
            raise ValueError(
                f"gate on {self.set} {self.metric} compares with nothing; "
                "within and mode='ratio' need relative_to = before, oracle or holdout"
            )
        if self.within is not None and (self.within <= 0 or self.mode == "ratio"):
            raise ValueError(
                f"gate on {self.set} {self.metric} has within={self.within:g}, mode={self.mode!r}; "
                "accepted: within > 0 with mode='difference'"
            )
        return self

    @property
    def sentence(self) -> str:
        """The gate in words.

        >>> Gate(set="forget", metric="es", within=0.1, relative_to="oracle").sentence
        "forget es within 0.10 of the oracle's"
        """
        return f"{self.set} {self.metric} {self.bound}"

    @property
    def bound(self) -> str:
        """The bound in words, without what it is on."""
        whose = "its value before" if self.relative_to == "before" else f"the {self.relative_to}'s"
        if self.within is not None:
            return f"within {_show(self.within)} of {whose}"
        low, high = self.low_high
        upper = math.isfinite(high)
        end = high if upper else low
        if self.relative_to is None:
            return f"at {'most' if upper else 'least'} {_show(end)}"
        if self.mode == "ratio":
            return f"at {'most' if upper else 'least'} {_show(end)} times {whose}"
        # "at most 0.10 below" is what a lower bound of -0.10 means, and the reverse.
        word = "most" if upper == (end >= 0) else "least"
        return f"at {word} {_show(abs(end))} {'above' if end >= 0 else 'below'} {whose}"

    @property
    def low_high(self) -> tuple[float, float]:
        """The good side as a closed interval, infinite where it has no end."""
        if self.within is not None:
            return -self.within, self.within
        return (
            -math.inf if self.at_least is None else self.at_least,
            math.inf if self.at_most is None else self.at_most,
        )


class _Quantity(NamedTuple):
    """What a gate looks at: value, interval, examples and how it came about; or why there is none."""

    value: float | None
    low: float | None
    high: float | None
    n: int
    words: str


def default_gates(
    kind: str, columns_present: Collection[str], sets_present: Collection[str], *, modality: str = "text"
) -> tuple[Gate, ...]:
    """The gates of a plan that names none.

    Args:
        kind: "learn", "unlearn", "update" (both) or "measure"; a measurement has no gates.
        columns_present: columns that will be measured, of "before", "after", "oracle".
        sets_present: sets that will be measured.
        modality: "text" or "image".

    Returns:
        Unlearning: forget es and ma within 0.10 of the oracle's; without an oracle at most 0.10 above the holdout's;
        with neither still the oracle's, which is then undecided by construction, because an absolute level means
        nothing without knowing what a model scores that never saw the examples. Without a retain and a general set
        retain still has a gate, undecided: a model that forgot everything does not pass. Learning: learn es at least
        0.95. All: retain es at least 0.90 times before, general ppl at most 1.10 times before. Of images all of these
        look at accuracy, of which general keeps 0.90 times before. Absent sets get no gate.
    """
    metrics = ("accuracy",) if modality == "image" else ("es", "ma")
    gates: list[Gate] = []
    if kind in ("unlearn", "update"):
        by_holdout = "oracle" not in columns_present and "holdout" in sets_present
        for metric in metrics:
            if by_holdout:
                gates.append(Gate(set="forget", metric=metric, at_most=0.10, relative_to="holdout"))
            else:
                gates.append(Gate(set="forget", metric=metric, within=0.10, relative_to="oracle"))
    if kind != "measure":
        gates.append(_kept("retain", metrics[0]))
    if kind in ("learn", "update"):
        gates.append(Gate(set="learn", metric=metrics[0], at_least=0.95))
    if kind != "measure":
        ratio = Gate(set="general", metric="ppl", at_most=1.10, relative_to="before", mode="ratio", average="geometric")
        gates.append(_kept("general", "accuracy") if modality == "image" else ratio)
    unguarded = kind in ("unlearn", "update") and not {"retain", "general"} & set(sets_present)
    wanted = {*sets_present, "retain"} if unguarded else set(sets_present)
    return tuple(gate for gate in gates if gate.set in wanted)


def _kept(name: str, metric: str) -> Gate:
    return Gate(set=name, metric=metric, at_least=0.90, relative_to="before", mode="ratio")


def parse_gates(rows: object) -> tuple[Gate, ...]:
    """Gates from the value of a plan's "gates".

    Raises:
        PlanError: it is no list, or one or more rows cannot be used; names all of them in one line.
    """
    if not isinstance(rows, (list, tuple)):
        raise PlanError(f"gates is {rows!r}; accepted: a list of rows with fields {', '.join(Gate.model_fields)}")
    gates, problems = [], []
    for number, row in enumerate(rows, start=1):
        try:
            gates.append(Gate.model_validate(row))
        except ValidationError as error:
            for problem in error.errors():
                place = ".".join(str(part) for part in problem["loc"])
                problems.append(f"gate {number}{f' ({place})' if place else ''}: {problem['msg']}")
    if problems:
        raise PlanError(f"{'; '.join(problems)}; accepted fields: {', '.join(Gate.model_fields)}")
    return tuple(gates)


def judge(gates: Sequence[Gate], scores: Scores, *, budget_ended: str | None = None, draws: Draws = DRAWS) -> Verdict:
    """Hold every gate against the scores.

    Args:
        gates: the plan's.
        scores: column ("before", "after", "oracle") -> set -> metric key -> score.
        budget_ended: the budget that ended the run before all examples passed, e.g. "40 steps"; None when none did.
        draws: seed and number of resamples of the bootstrap.

    Returns:
        Failed if any gate failed; else undecided if any gate is, if there are no gates, or if a budget ended the run
        before all examples passed; else passed.
    """
    results = tuple(_judge_one(gate, scores, draws) for gate in gates)
    return Verdict(*_sum_up(results, budget_ended), results)


def _sum_up(results: Sequence[GateResult], budget_ended: str | None) -> tuple[Outcome, str]:
    failed = [r.gate for r in results if r.outcome is Outcome.FAILED]
    undecided = [r.gate for r in results if r.outcome is Outcome.UNDECIDED]
    ended = f"run's budget ({(budget_ended or '').removeprefix('budget: ')}) ended it before all examples passed."
    also = f" The {ended}" if budget_ended else ""
    if failed:
        return Outcome.FAILED, f"Failed: {len(failed)} of {len(results)} gates failed ({'; '.join(failed)}).{also}"
    if undecided:
        summary = f"Undecided: {len(undecided)} of {len(results)} gates undecided ({'; '.join(undecided)}).{also}"
        return Outcome.UNDECIDED, summary
    if not results:
        return Outcome.UNDECIDED, f"Undecided: the plan has no gates.{also}"
    hold = f"all {len(results)} gates hold" if len(results) > 1 else "the one gate holds"
    if budget_ended:
        return Outcome.UNDECIDED, f"Undecided: {hold}, but the {ended}"
    return Outcome.PASSED, f"Passed: {hold}."


def _judge_one(gate: Gate, scores: Scores, draws: Draws) -> GateResult:
    quantity = _quantity(gate, scores, draws)
    outcome, reason = _decide(gate, quantity)
    return GateResult(gate.sentence, outcome, f"{quantity.words}: {reason}.")


def _decide(gate: Gate, quantity: _Quantity) -> tuple[Outcome, str]:
    value, low, high, n, _ = quantity
    if value is None:
        return Outcome.UNDECIDED, "undecided"
    if n < MIN_EXAMPLES:
        return Outcome.UNDECIDED, f"undecided, n {n} is too small (at least {MIN_EXAMPLES})"
    if low is None or high is None or math.isnan(low) or math.isnan(high):
        return Outcome.UNDECIDED, "undecided, there is no interval"
    good_low, good_high = (gate.low_high[0] - ROUNDING, gate.low_high[1] + ROUNDING)
    if good_low <= low and high <= good_high:
        return Outcome.PASSED, f"passed, the whole interval is {gate.bound}"
    if high < good_low or low > good_high:
        return Outcome.FAILED, f"failed, no part of the interval is {gate.bound}"
    return Outcome.UNDECIDED, "undecided, the interval straddles the bound"


def _quantity(gate: Gate, scores: Scores, draws: Draws) -> _Quantity:
    score = scores.get("after", {}).get(gate.set, {}).get(gate.metric)
    if score is None or score.value is None:
        return _missing(f"{gate.set} {gate.metric} after the run was not measured")
    after = f"{gate.set} {gate.metric} is {_show(score.value)}{_interval(score.low, score.high)} (n {score.n}) after"
    if gate.relative_to is None:
        return _Quantity(score.value, score.low, score.high, score.n, after)
    return _against_reference(gate, scores, score, after, draws)


def _against_reference(gate: Gate, scores: Scores, score: Score, after: str, draws: Draws) -> _Quantity:
    relative_to = str(gate.relative_to)
    column, name = ("after", "holdout") if relative_to == "holdout" else (relative_to, gate.set)
    reference = scores.get(column, {}).get(name, {}).get(gate.metric)
    if reference is None or reference.value is None:
        return _missing(f"{after}, but {_ABSENT[relative_to]}")
    if reference.version != score.version:
        return _missing(
            f"{after} by version {score.version} of the metric, but its reference by version {reference.version}"
        )
    compare = unpaired if relative_to == "holdout" else paired
    result = compare(score.by_id, reference.by_id, gate.mode, average=gate.average, draws=draws)
    words = f"{after} and {_show(reference.value)}{_interval(reference.low, reference.high)} {_WHERE[relative_to]}"
    return _Quantity(*result, f"{words}, {_compared(gate, result, reference.n)}")


def _compared(gate: Gate, result: Comparison, reference_n: int) -> str:
    if result.value is None:
        return f"which have no {gate.mode} over {result.n} examples"
    signed = gate.mode == "difference"
    interval = _interval(result.low, result.high, signed=signed)
    over = f"{result.n} pairs" if gate.relative_to != "holdout" else f"n {reference_n} there"
    name = "mean ratio" if gate.mode == "ratio" and gate.average == "geometric" else gate.mode
    return f"{name} {_show(result.value, signed=signed)}{interval} ({over})"


def _missing(words: str) -> _Quantity:
    return _Quantity(None, None, None, 0, words)


def _show(value: float, *, signed: bool = False) -> str:
    """Two decimals, or three significant digits where two decimals would hide the size."""
    sign = "+" if signed else ""
    plain = value == 0 or 0.01 <= abs(value) < 1000
    return f"{value:{sign}.2f}" if plain else f"{value:{sign}.3g}"


def _interval(low: float | None, high: float | None, *, signed: bool = False) -> str:
    if low is None or high is None or math.isnan(low) or math.isnan(high):
        return ""
    return f" [{_show(low, signed=signed)}, {_show(high, signed=signed)}]"
