from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from palimpsest.audit.comparison import Draws
from palimpsest.audit.gates import Gate, default_gates, parse_gates
from palimpsest.audit.judging import MIN_EXAMPLES, Finding, examine, judged_by
from palimpsest.errors import PlanError
from palimpsest.models.families.yardsticks import BY_CLASSES
from palimpsest.records import Direction, GateResult, Outcome, Score


def score(values: Sequence[float | None], *, metric: str = "es", version: int = 1) -> Score:
    known = [v for v in values if v is not None]
    return Score(
        metric=metric,
        value=sum(known) / len(known) if known else None,
        low=min(known) if len(known) > 1 else None,
        high=max(known) if len(known) > 1 else None,
        n=len(known),
        unscored=len(values) - len(known),
        direction=Direction.HIGHER,
        unit="share",
        version=version,
        by_id={str(i): v for i, v in enumerate(values)},
    )


def one(gate: Gate, **columns: Score) -> GateResult:
    """The result of a gate whose set and metric have these scores."""
    scores = {column: {gate.set: {gate.metric: value}} for column, value in columns.items()}
    (result,) = judged_by([gate], scores).gates
    return result


TO_ORACLE = Gate(set="forget", metric="es", within=0.10, relative_to="oracle")
ORACLE = [0.1, 0.2, 0.3, 0.1, 0.2, 0.3, 0.1, 0.2]
"""Mean 1.5 / 8 = 0.1875."""


def shifted(differences: Sequence[float]) -> Score:
    return score([base + d for base, d in zip(ORACLE, differences, strict=True)])


def test_within_passes_when_all_differences_are_inside() -> None:
    # Every resampled mean lies between the smallest and the largest difference, so within -0.04..0.08; mean 0.02.
    result = one(TO_ORACLE, after=shifted([0.08, -0.04] * 4), oracle=score(ORACLE))
    assert result.outcome is Outcome.PASSED
    assert result.gate == "forget es within 0.10 of the oracle's"
    # after: mean 0.1875 + 0.02, from 0.1 - 0.04 to 0.3 + 0.08 (the fixture's own interval is minimum and maximum).
    words = "forget es is 0.21 [0.06, 0.38] (n 8) after and 0.19 [0.10, 0.30] under the oracle, difference +0.02 ["
    assert result.sentence.startswith(words)
    assert result.sentence.endswith("(8 pairs): passed, the whole interval is within 0.10 of the oracle's.")


@pytest.mark.parametrize("sign", [1, -1])
def test_within_fails_on_either_side(sign: int) -> None:
    # Every resampled mean lies in 0.2..0.4, or in -0.4..-0.2: knowing much less than the oracle is a trace too.
    result = one(TO_ORACLE, after=shifted([sign * 0.2, sign * 0.4] * 4), oracle=score(ORACLE))
    assert result.outcome is Outcome.FAILED
    assert result.sentence.endswith("failed, no part of the interval is within 0.10 of the oracle's.")
    assert f"difference {'+' if sign > 0 else '-'}0.30 [" in result.sentence


def test_within_is_undecided_across_the_bound() -> None:
    # Differences are -0.3 or 0.5, four of each: a resampled mean is -0.3 + 0.8 k / 8 with k ~ Binomial(8, 1/2).
    # P(k = 0) = 1/256 = 0.4 % < 2.5 % < P(k <= 1) = 9/256 = 3.5 %: the interval is k = 1..7, -0.2..0.4, mean 0.1.
    after, oracle = shifted([-0.3, 0.5] * 4), score(ORACLE)
    scores = {"after": {"forget": {"es": after}}, "oracle": {"forget": {"es": oracle}}}
    (result,) = judged_by([TO_ORACLE], scores, draws=Draws(seed=0, resamples=20_000)).gates
    assert result.outcome is Outcome.UNDECIDED
    assert "difference +0.10 [-0.20, +0.40] (8 pairs): undecided, the interval straddles the bound." in result.sentence


def test_the_point_value_does_not_decide() -> None:
    # Mean difference 0.05 is inside 0.10, but the interval is not.
    result = one(TO_ORACLE, after=shifted([-0.4, 0.5] * 4), oracle=score(ORACLE))
    assert result.outcome is Outcome.UNDECIDED


def test_the_bound_is_on_the_good_side() -> None:
    # 0.3 + 0.1 differs from 0.4 in the last digit; both bounds are met exactly on paper.
    assert one(TO_ORACLE, after=score([0.4] * 6), oracle=score([0.3] * 6)).outcome is Outcome.PASSED
    gate = Gate(set="learn", metric="es", at_least=0.95)
    assert one(gate, after=score([0.95] * 6)).outcome is Outcome.PASSED


@pytest.mark.parametrize(
    ("values", "outcome", "words"),
    [
        ([0.96, 0.99, 1.0] * 2, Outcome.PASSED, "learn es is 0.98 [0.96, 1.00] (n 6) after: passed"),
        ([0.5, 0.7, 0.9] * 2, Outcome.FAILED, "learn es is 0.70 [0.50, 0.90] (n 6) after: failed"),
        ([0.9, 1.0, 1.0] * 2, Outcome.UNDECIDED, "learn es is 0.97 [0.90, 1.00] (n 6) after: undecided"),
    ],
)
def test_absolute_gate_uses_the_score_s_own_interval(values: list[float], outcome: Outcome, words: str) -> None:
    result = one(Gate(set="learn", metric="es", at_least=0.95), after=score(values))
    assert result.outcome is outcome
    assert result.sentence.startswith(words)


@pytest.mark.parametrize(
    ("factors", "outcome"),
    [([1.02, 1.08], Outcome.PASSED), ([1.2, 1.5], Outcome.FAILED), ([0.5, 2.4], Outcome.UNDECIDED)],
)
def test_perplexity_ratio(factors: list[float], outcome: Outcome) -> None:
    # The geometric mean of each example's ratio stays between the two factors, whatever is drawn.
    gate = default_gates("learn", ("before", "after"), ("general",))[0]
    before = [4.0, 5.0, 6.0, 20.0] * 2
    after = [b * factors[i % 2] for i, b in enumerate(before)]
    result = one(gate, before=score(before, metric="ppl"), after=score(after, metric="ppl"))
    assert result.gate == "general ppl at most 1.10 times its value before"
    assert result.outcome is outcome
    # sqrt(1.02 * 1.08) = 1.0496, sqrt(1.2 * 1.5) = 1.3416, sqrt(0.5 * 2.4) = 1.0954
    shown = {Outcome.PASSED: "1.05", Outcome.FAILED: "1.34", Outcome.UNDECIDED: "1.10"}[outcome]
    assert f"mean ratio {shown} [" in result.sentence


@pytest.mark.parametrize(
    ("after", "outcome"),
    [([0.95, 1.0], Outcome.PASSED), ([0.2, 0.3], Outcome.FAILED), ([0.7, 1.0], Outcome.UNDECIDED)],
)
def test_retained_share(after: list[float], outcome: Outcome) -> None:
    # Before is 1 everywhere, so the ratio is the mean of after: between its two values, whatever is drawn.
    gate = Gate(set="retain", metric="es", at_least=0.9, relative_to="before", mode="ratio")
    result = one(gate, before=score([1.0] * 8), after=score(after * 4))
    assert result.outcome is outcome


@pytest.mark.parametrize(
    ("forget", "outcome"),
    [([0.0, 0.1], Outcome.PASSED), ([0.5, 0.6], Outcome.FAILED), ([0.0, 0.6], Outcome.UNDECIDED)],
)
def test_against_the_holdout_of_the_same_model(forget: list[float], outcome: Outcome) -> None:
    # Holdout is 0.1..0.2: the difference of means is at most 0.0, at least 0.3, or anywhere in -0.2..0.5.
    gate = Gate(set="forget", metric="es", at_most=0.10, relative_to="holdout")
    sets = {"forget": {"es": score(forget * 4)}, "holdout": {"es": score([0.1, 0.2] * 10)}}
    (result,) = judged_by([gate], {"after": sets}).gates
    assert result.gate == "forget es at most 0.10 above the holdout's"
    assert result.outcome is outcome
    assert "0.15 [0.10, 0.20] on the holdout" in result.sentence
    assert "(n 20 there)" in result.sentence


def test_against_the_level_of_never_seen() -> None:
    gate = Gate(set="forget", metric="es", within=0.10, relative_to="level")
    result = one(gate, after=shifted([0.08, -0.04] * 4), level=score(ORACLE))
    assert result.outcome is Outcome.PASSED
    assert "0.19 [0.10, 0.30] at the level of never seen, difference +0.02 [" in result.sentence
    assert one(gate, after=shifted([0.2, 0.4] * 4), level=score(ORACLE)).outcome is Outcome.FAILED
    assert "but no level of never seen was found" in one(gate, after=score(ORACLE)).sentence


@pytest.mark.parametrize(
    ("metric", "n", "outcome"),
    [("accuracy", 20, Outcome.UNDECIDED), ("accuracy", 400, Outcome.PASSED), ("es", 20, Outcome.PASSED)],
)
def test_what_chance_does_to_few_rows_that_are_right_or_wrong(metric: str, n: int, outcome: Outcome) -> None:
    """All right for 0.98: 1.96 · √(p (1 − p) / n) is 0.06 and 0.01; 0.02 and either beside the bound of 0.05."""
    gate = Gate(set="forget", metric=metric, at_most=0.05, relative_to="level")
    assert one(gate, after=score([1.0] * n, metric=metric), level=score([0.98] * n, metric=metric)).outcome is outcome


def test_as_many_rows_as_are_wanted_decide_and_one_less_does_not() -> None:
    """20 · (0.0614 / 0.03)² = 83.7, where 0.03 is from 0.02 to the bound."""
    gate = Gate(set="forget", metric="accuracy", at_most=0.05, relative_to="level")

    def found(n: int) -> Finding:
        columns = {"after": 1.0, "level": 0.98}
        (finding,) = examine(
            [gate], {c: {"forget": {"accuracy": score([v] * n, metric="accuracy")}} for c, v in columns.items()}
        )
        return finding

    assert found(20).wanted == found(83).wanted == 84
    assert (found(84).outcome, found(84).wanted) == (Outcome.PASSED, None)


def test_doubts_turn_passed_into_undecided_and_nothing_else() -> None:
    doubt = ["the level's source is not trusted: it is 0.25 off on the holdout"]
    verdict = judged_by([PASSING], SCORES, doubts=doubt)
    assert verdict.outcome is Outcome.UNDECIDED
    said = "The level's source is not trusted: it is 0.25 off on the holdout."
    assert verdict.sentence == f"Undecided: the one gate holds, but nobody can rely on it. {said}"
    assert judged_by([FAILING], SCORES, doubts=doubt).outcome is Outcome.FAILED
    assert judged_by([FAILING], SCORES, doubts=doubt).sentence.endswith(said)


def test_without_a_reference_nothing_is_decided() -> None:
    result = one(TO_ORACLE, after=score([0.0] * 8))
    assert result.outcome is Outcome.UNDECIDED
    assert result.sentence == (
        "forget es is 0.00 [0.00, 0.00] (n 8) after, but no oracle was measured, and an absolute level cannot tell "
        "what a model scores that never saw it: undecided."
    )


def test_without_a_score_nothing_is_decided() -> None:
    assert one(TO_ORACLE, oracle=score(ORACLE)).sentence == "forget es after the run was not measured: undecided."
    assert one(TO_ORACLE, after=score([None] * 8), oracle=score(ORACLE)).outcome is Outcome.UNDECIDED


def test_scores_of_different_versions_are_not_compared() -> None:
    result = one(TO_ORACLE, after=score(ORACLE, version=2), oracle=score(ORACLE))
    assert result.outcome is Outcome.UNDECIDED
    assert "by version 2 of the metric, but its reference by version 1" in result.sentence


@pytest.mark.parametrize(("n", "outcome"), [(1, Outcome.UNDECIDED), (5, Outcome.UNDECIDED), (6, Outcome.PASSED)])
def test_few_examples_decide_nothing(n: int, outcome: Outcome) -> None:
    result = one(TO_ORACLE, after=score([0.1] * n), oracle=score([0.1] * n))
    assert result.outcome is outcome
    if n < MIN_EXAMPLES:
        assert result.sentence.endswith(f"undecided, n {n} is too small (at least 6).")


@pytest.mark.parametrize("end", [None, float("nan")])
def test_without_an_interval_nothing_is_decided_and_none_is_printed(end: float | None) -> None:
    after = replace(score([0.1] * 8), low=end, high=end)
    result = one(Gate(set="forget", metric="es", at_most=0.5), after=after)
    assert result.outcome is Outcome.UNDECIDED
    assert result.sentence == "forget es is 0.10 (n 8) after: undecided, there is no interval."


def test_only_pairs_count_towards_n() -> None:
    result = one(TO_ORACLE, after=score([0.1] * 8), oracle=score([0.1] * 5 + [None] * 3))
    assert result.outcome is Outcome.UNDECIDED
    assert "(5 pairs): undecided, n 5 is too small" in result.sentence


def test_a_ratio_to_nothing_is_undecided() -> None:
    gate = Gate(set="retain", metric="es", at_least=0.9, relative_to="before", mode="ratio")
    result = one(gate, before=score([0.0] * 8), after=score([0.5] * 8))
    assert result.outcome is Outcome.UNDECIDED
    assert "which have no ratio over 8 examples" in result.sentence


PASSING = Gate(set="a", metric="es", at_least=0.5)
FAILING = Gate(set="b", metric="es", at_least=0.9)
STRADDLING = Gate(set="c", metric="es", at_least=0.75)
SCORES = {"after": {name: {"es": score([0.7, 0.8] * 4)} for name in ("a", "b", "c")}}


@pytest.mark.parametrize(
    ("gates", "budget", "outcome", "sentence"),
    [
        ([PASSING], None, Outcome.PASSED, "Passed: the one gate holds."),
        ([PASSING, STRADDLING], None, Outcome.UNDECIDED, "Undecided: 1 of 2 gates undecided (c es at least 0.75)."),
        ([FAILING, STRADDLING], None, Outcome.FAILED, "Failed: 1 of 2 gates failed (b es at least 0.90)."),
        ([PASSING, PASSING], None, Outcome.PASSED, "Passed: all 2 gates hold."),
        ([], None, Outcome.UNDECIDED, "Undecided: the plan has no gates."),
        (
            [PASSING],
            "budget: 40 steps",
            Outcome.UNDECIDED,
            "Undecided: the one gate holds, but the run's budget (40 steps) ended it before all examples passed.",
        ),
        (
            [FAILING],
            "40 steps",
            Outcome.FAILED,
            "Failed: 1 of 1 gate failed (b es at least 0.90). The run's budget (40 steps) ended it before all "
            "examples passed.",
        ),
    ],
)
def test_overall(gates: list[Gate], budget: str | None, outcome: Outcome, sentence: str) -> None:
    verdict = judged_by(gates, SCORES, budget_ended=budget)
    assert verdict.outcome is outcome
    assert verdict.sentence == sentence
    assert [g.gate for g in verdict.gates] == [g.sentence for g in gates]


def sentences(kind: str, columns: tuple[str, ...], sets: tuple[str, ...]) -> list[str]:
    return [gate.sentence for gate in default_gates(kind, columns, sets)]


def test_default_gates() -> None:
    every = ("forget", "retain", "holdout", "general")
    utility = ["retain es at least 0.90 times its value before", "general ppl at most 1.10 times its value before"]
    oracle = ["forget es within 0.10 of the oracle's", "forget ma within 0.10 of the oracle's"]
    holdout = ["forget es at most 0.10 above the holdout's", "forget ma at most 0.10 above the holdout's"]
    assert sentences("unlearn", ("before", "after", "oracle"), every) == oracle + utility
    assert sentences("unlearn", ("before", "after"), every) == holdout + utility
    assert sentences("unlearn", ("before", "after"), ("forget",)) == [*oracle, utility[0]]  # undecided, not passed
    assert sentences("update", ("before", "after"), ("forget", "learn", "general"))[-1] == utility[1]
    level = ["forget es within 0.10 of the level of never seen", "forget ma within 0.10 of the level of never seen"]
    assert sentences("unlearn", ("before", "after", "level"), every) == level + utility
    assert sentences("unlearn", ("before", "after", "oracle", "level"), every) == oracle + utility
    # What was learned is bounded only where a plan asks for it: 0.95 would be verbatim memorisation.
    for kind in ("learn", "update"):
        assert sentences(kind, ("before", "after"), ("learn", "retain", "general")) == utility
        assert sentences(kind, ("before", "after"), ("learn",)) == []
    assert sentences("measure", ("after",), every) == []


def test_default_gates_of_images_look_at_accuracy() -> None:
    every = ("forget", "retain", "holdout", "general")
    kept = [f"{name} accuracy at least 0.90 times its value before" for name in ("retain", "general")]

    def said(kind: str, columns: Sequence[str], sets: Sequence[str]) -> list[str]:
        return [gate.sentence for gate in default_gates(kind, columns, sets, judging=BY_CLASSES)]

    assert said("unlearn", ("oracle",), every) == ["forget accuracy within 0.10 of the oracle's", *kept]
    assert said("unlearn", ("after",), every) == ["forget accuracy at most 0.10 above the holdout's", *kept]
    assert said("learn", ("after",), ("learn", "retain")) == kept[:1]


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"at_most": 0.3}, "forget es at most 0.30"),
        ({"at_least": -0.05, "relative_to": "before"}, "forget es at most 0.05 below its value before"),
        ({"at_most": -0.5, "relative_to": "before"}, "forget es at least 0.50 below its value before"),
        ({"at_least": 0.5, "relative_to": "before"}, "forget es at least 0.50 above its value before"),
        ({"at_most": 0.001, "relative_to": "oracle"}, "forget es at most 0.001 above the oracle's"),
        ({"at_most": 2, "relative_to": "oracle", "mode": "ratio"}, "forget es at most 2.00 times the oracle's"),
    ],
)
def test_a_gate_reads_as_a_sentence(fields: dict[str, Any], sentence: str) -> None:
    assert Gate(set="forget", metric="es", **fields).sentence == sentence


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, r"has 0 bounds \(none\); accepted: exactly one of at_most, at_least, within"),
        ({"at_most": 1, "at_least": 0}, r"has 2 bounds \(at_most, at_least\)"),
        ({"within": 0.1}, "compares with nothing"),
        ({"at_most": 1.1, "mode": "ratio"}, "compares with nothing"),
        ({"within": -0.1, "relative_to": "oracle"}, "accepted: within > 0"),
        ({"within": 0.1, "relative_to": "oracle", "mode": "ratio"}, "with mode='difference'"),
        ({"at_most": float("nan")}, "finite"),
        ({"at_most": 1, "relative_to": "after"}, "'before', 'oracle', 'level' or 'holdout'"),
        ({"at_most": 1, "bound": 2}, "Extra inputs are not permitted"),
    ],
)
def test_a_gate_refuses(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Gate(set="forget", metric="es", **fields)


def test_parse_gates_lists_every_problem_in_one_line() -> None:
    rows = [{"set": "forget", "metric": "es", "at_most": 0.1}, {"set": "forget"}, {"metric": 3, "at_most": "x"}]
    with pytest.raises(PlanError) as refusal:
        parse_gates(rows)
    message = str(refusal.value)
    for part in (
        "gate 2 (metric): Field required",
        "gate 3 (set): Field required",
        "gate 3 (at_most)",
        "accepted fields",
    ):
        assert part in message
    assert "gate 1" not in message
    assert "\n" not in message


@pytest.mark.parametrize("value", [{"set": "forget"}, "forget es", 3])
def test_parse_gates_refuses_what_is_no_list(value: object) -> None:
    with pytest.raises(PlanError, match=r"gates is .*; accepted: a list of rows with fields set, metric, at_most"):
        parse_gates(value)


def test_gates_round_trip_through_json() -> None:
    gates = default_gates("unlearn", ("oracle",), ("forget", "retain", "general"))
    assert parse_gates([gate.model_dump(mode="json") for gate in gates]) == gates
