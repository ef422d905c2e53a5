"""The verdict for people who read no gates."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from palimpsest.audit.gates import Gate, default_gates
from palimpsest.audit.judging import ScoreTable, examine, sum_up
from palimpsest.audit.known import distrusting, known_checks
from palimpsest.audit.plain_verdict import say_plainly
from palimpsest.records import Direction, Outcome, Score


def score(value: float, metric: str, n: int) -> Score:
    direction = Direction.LOWER if metric == "ppl" else Direction.HIGHER
    return Score(metric, value, value, value, n, 0, direction, "share", 1, {str(i): value for i in range(n)})


def scores_of(n: int = 8, **columns: dict[str, dict[str, float]]) -> ScoreTable:
    return {
        column: {name: {m: score(v, m, n) for m, v in metrics.items()} for name, metrics in sets.items()}
        for column, sets in columns.items()
    }


def said(
    scores: ScoreTable, gates: Sequence[Gate] | None = None, kind: str = "unlearn", doubts: Sequence[str] = ()
) -> str:
    sets = scores["after"].keys()
    chosen = default_gates(kind, scores.keys(), sets) if gates is None else gates
    findings = distrusting((*(known_checks(scores) if "forget" in sets else ()), *examine(chosen, scores)))
    return say_plainly(findings, sum_up(findings, doubts=doubts).outcome, scores, doubts=doubts)


def forget(ma: float, es: float = 0.02) -> dict[str, dict[str, float]]:
    return {"forget": {"es": es, "ma": ma}, "retain": {"es": 1.0}}


BEFORE = forget(1.0, 1.0)
NEVER = {"forget": {"es": 0.02, "ma": 0.4}}


@pytest.mark.parametrize(
    ("scores", "sentence"),
    [
        (
            scores_of(before=BEFORE, after=BEFORE, oracle=NEVER),
            "Failed: the forget set is as known as before (MA 1.00 before, 1.00 after; a model that never saw it "
            "scores 0.40).",
        ),
        (
            scores_of(before=BEFORE, after=forget(0.8, 0.5), oracle=NEVER),
            "Failed: the model still knows the forget set (MA 1.00 before, 0.80 after; a model that never saw it "
            "scores 0.40).",
        ),
        (
            scores_of(before=BEFORE, after=forget(0.1), level=NEVER),
            "Failed: the model answers the forget set worse than one that never saw it (MA 1.00 before, 0.10 after; a "
            "model that never saw it should score about 0.40).",
        ),
        (
            scores_of(before=BEFORE, after={**forget(0.42), "retain": {"es": 0.5}}, oracle=NEVER),
            "Failed: the model lost part of what had to stay (ES 1.00 before, 0.50 after).",
        ),
        (
            scores_of(before=BEFORE, after=forget(0.42), oracle=NEVER),
            "Passed: the model answers the forget set like one that never saw it (MA 1.00 before, 0.42 after; a "
            "model that never saw it scores 0.40) and kept what was asked of the retain set.",
        ),
        (
            scores_of(before=BEFORE, after=forget(0.42)),
            "Undecided: nothing shows what a model scores that never saw the forget set (MA 1.00 before, 0.42 after).",
        ),
        (
            scores_of(before=BEFORE, after=forget(0.42), oracle=BEFORE),
            "Undecided: the oracle seems to know the forget set itself, so that nothing shows what a model scores that "
            "never saw it (MA 1.00 before, 0.42 after).",
        ),
        (
            scores_of(3, before=BEFORE, after=forget(0.42), oracle=NEVER),
            "Undecided: the forget set is too small to decide (at least 6 examples) (MA 1.00 before, 0.42 after; a "
            "model that never saw it scores 0.40); the retain set is too small to decide (at least 6 examples) (ES "
            "1.00 before, 1.00 after).",
        ),
    ],
    ids=["as known", "still known", "overdone", "retain lost", "passed", "no level", "oracle knows", "few"],
)  # fmt: skip
def test_unlearning(scores: ScoreTable, sentence: str) -> None:
    assert said(scores) == sentence


def test_learning_says_what_was_held() -> None:
    general = {"general": {"ppl": 5.0}}
    assert said(scores_of(before=general, after=general), kind="learn") == (
        "Passed: the model kept what was asked of the general set."
    )
    worse = said(scores_of(before=general, after={"general": {"ppl": 9.0}}), kind="learn")
    assert worse == "Failed: the model got worse on general examples (perplexity 5.00 before, 9.00 after)."


def test_a_learn_gate_that_was_asked_for() -> None:
    gate = Gate(set="learn", metric="es", at_least=0.95)
    learn = scores_of(before={"learn": {"es": 0.1}}, after={"learn": {"es": 0.5}})
    assert said(learn, [gate], "learn") == (
        "Failed: the model did not learn what it should (ES 0.10 before, 0.50 after)."
    )


def test_a_budget_that_ended_the_run_is_the_reason_where_every_gate_holds() -> None:
    scores = scores_of(before=BEFORE, after=forget(0.42), oracle=NEVER)
    sentence = say_plainly((), Outcome.UNDECIDED, scores, budget_ended="budget: 40 steps")
    assert sentence == (
        "Undecided: all that was asked holds, but the run's budget (40 steps) ended it before every example passed."
    )


def test_doubts_are_the_reason_where_every_gate_holds() -> None:
    scores = scores_of(before=BEFORE, after=forget(0.42), level=NEVER)
    words = said(scores, doubts=["the level is not trusted."])
    assert words.startswith("Undecided: it seems that the model answers the forget set like one that never saw it (MA")
    assert words.endswith(" set, but the level is not trusted.")


def plan_of(metric: str, **bound: object) -> list[Gate]:
    return [Gate.model_validate({"set": "retain", "metric": metric, **bound})]


@pytest.mark.parametrize(
    ("before", "after", "gate", "sentence"),
    [
        ({"ma": 0.9}, {"ma": 0.5}, {"at_least": 0.8}, "the model lost part of what had to stay (MA 0.90 before, 0.50"),
        ({"ma": 0.01}, {"ma": 0.03}, {"at_least": 0.99}, "the retain set missed its bound, as it did before the run ("),
        ({"ma": 0.9}, {"ma": 0.8}, {"at_least": 0.99}, "the retain set missed its bound, as it did before the run ("),
        ({"ma": 0.1}, {"ma": 0.5}, {"at_most": 0.2}, "the retain set missed its bound (MA 0.10 before, 0.50 after)"),
        ({}, {"ma": 0.5}, {"at_least": 0.8}, "the retain set missed its bound (MA 0.50 after)"),
        ({"ppl": 5.0}, {"ppl": 9.0}, {"at_most": 6.0}, "the model lost part of what had to stay (perplexity 5.00"),
        ({"ppl": 9.0}, {"ppl": 8.0}, {"at_most": 6.0}, "the retain set missed its bound, as it did before the run ("),
        ({"ppl": 9.0}, {"ppl": 4.0}, {"at_least": 6.0}, "the retain set missed its bound (perplexity 9.00 before, 4"),
    ],
)
def test_only_what_was_there_is_told_as_a_loss(before, after, gate, sentence) -> None:
    scores = scores_of(before={"retain": before}, after={"retain": after})
    (metric,) = after
    assert f"Failed: {sentence}" in said(scores, plan_of(metric, **gate))


def test_a_bound_on_another_model_that_never_held_is_no_loss() -> None:
    scores = scores_of(before={"retain": {"ma": 0.2}}, after={"retain": {"ma": 0.1}}, oracle={"retain": {"ma": 0.9}})
    assert "as it did before the run" in said(scores, plan_of("ma", within=0.1, relative_to="oracle"))


def test_a_perplexity_that_is_too_low_still_knows_the_forget_set() -> None:
    scores = scores_of(before={"forget": {"ppl": 2.0}}, after={"forget": {"ppl": 3.0}})
    gates = [Gate(set="forget", metric="ppl", at_least=20)]
    assert said(scores, gates).startswith("Failed: the model still knows the forget set (perplexity 2.00 before")


def test_a_metric_that_was_left_out_is_no_set_that_was_not_given() -> None:
    scores = scores_of(before={"retain": {"ma": 0.9}}, after={"retain": {"ma": 0.9}})
    assert said(scores, plan_of("es", at_least=0.5)) == "Undecided: ES of the retain set was not measured."
    nothing = scores_of(before={"retain": {}}, after={"retain": {}})
    assert said(nothing, plan_of("es", at_least=0.5)) == "Undecided: the retain set was not measured."


def test_a_reference_that_lacks_the_metric_is_not_called_absent() -> None:
    scores = scores_of(after={"retain": {"ma": 0.9}, "holdout": {"es": 0.1}})
    (found,) = examine(plan_of("ma", at_least=0.0, relative_to="holdout"), scores)
    assert found.result.sentence.endswith("but ma was not measured on the holdout: undecided.")


def test_what_could_not_be_scored_says_why() -> None:
    empty = Score("el_10", None, None, None, 0, 8, Direction.HIGHER, "share", 1, {}, "shorter than 10 tokens")
    scores = {"after": {"retain": {"el_10": empty}}}
    (found,) = examine(plan_of("el_10", at_least=0.5), scores)
    assert found.result.sentence == (
        "no example of retain could be scored by el_10 (shorter than 10 tokens): undecided."
    )
    assert said(scores, plan_of("el_10", at_least=0.5)) == "Undecided: EL of the retain set could not be scored."
