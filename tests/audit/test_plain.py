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
