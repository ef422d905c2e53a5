"""What to do next, case by case."""

from __future__ import annotations

from typing import Any

import pytest

from palimpsest.audit.advice import AdviceFacts, advise
from palimpsest.audit.judging import Finding, Why
from palimpsest.audit.since import Since
from palimpsest.records import GateResult, Outcome


def finding(why: Why, name: str = "forget", outcome: Outcome | None = None) -> Finding:
    failed = why in (Why.ABOVE, Why.BELOW, Why.AS_KNOWN)
    usual = Outcome.PASSED if why is Why.HELD else Outcome.FAILED if failed else Outcome.UNDECIDED
    return Finding(name, "es", "oracle", why, GateResult("g", outcome or usual, "s"), Since.LOST)


def advice(*findings: Finding, outcome: Outcome = Outcome.FAILED, **facts: Any) -> list[str]:
    return list(advise(AdviceFacts(findings, outcome, **facts)))


ORACLE = {"given": ("forget", "retain", "oracle")}


def test_after_passed_there_is_nothing_to_do() -> None:
    assert advice(finding(Why.HELD), outcome=Outcome.PASSED, unknown_oracle=True) == []


def test_no_level() -> None:
    (line,) = advice(finding(Why.NO_REFERENCE), given=("forget", "retain"))
    assert line == (
        "Give a level to compare with: --holdout FILE (comparable rows that the model never saw), --oracle DIR (a "
        "model retrained without the forget set), or --make-oracle --base DIR to have one retrained."
    )
    (line,) = advice(finding(Why.NO_REFERENCE), given=("forget", "retain", "base"))
    assert "or --make-oracle to have one retrained" in line


def test_a_level_that_is_there_is_not_asked_for() -> None:
    for given in ("oracle", "holdout"):
        assert advice(finding(Why.HELD), given=("forget", given)) == []
    assert advice(finding(Why.HELD), level=True) == []


def test_an_oracle_of_unknown_origin_and_one_that_knows() -> None:
    (line,) = advice(finding(Why.HELD), unknown_oracle=True, **ORACLE)
    assert line == (
        "This oracle is of unknown origin: have one made whose record is known, --make-oracle --base DIR instead of "
        "--oracle."
    )
    (line,) = advice(finding(Why.ORACLE_KNOWS), unknown_oracle=True, **ORACLE)
    assert line.startswith("Leave this oracle out and have one retrained without the forget set: --make-oracle")


@pytest.mark.parametrize(
    ("why", "name", "words"),
    [
        (Why.FEW, "forget", "The forget set has 3 examples, and below 6 no run can pass, with or without an oracle"),
        (Why.FEW, "learn", "The learn set is small: give at least 6."),
        (Why.ACROSS, "retain", "The retain set has 9 examples, too few for an interval this wide: give more, such"),
        (Why.UNMEASURED, "retain", "Give the retain set (--retain FILE), so that it is measured."),
    ],
)
def test_more_rows(why: Why, name: str, words: str) -> None:
    (line,) = advice(finding(why, name), sizes={"forget": 3, "retain": 9}, **ORACLE)
    assert line.startswith(words)


@pytest.mark.parametrize("why", [Why.AS_KNOWN, Why.ABOVE])
def test_what_is_still_known(why: Why) -> None:
    (line,) = advice(finding(why), **ORACLE)
    assert line == "Give no preset, rate or schedule, so that the run finds its own rate and length."
    (line,) = advice(finding(why), rate_given=True, **ORACLE)
    assert line == "Leave --lr out, so that the run finds its own rate."
    (line,) = advice(finding(why), finds_rate=True, short="stalls", others=("npo",), **ORACLE)
    assert line == (
        "The run ended short of its level (stalls): try another method (--method npo), give --replay FILE to rehearse."
    )
    (line,) = advice(finding(why), finds_rate=True, steps=0, short="budget: 1 second; not reached", **ORACLE)
    assert line == (
        "The run ended short of its level (budget: 1 second; not reached): give --replay FILE to rehearse, or a larger "
        "budget (--set training.max_seconds=...)."
    )
    (line,) = advice(finding(why), steps=0, **ORACLE)
    assert line.startswith("The run took no step: leave --refine out")
    (line,) = advice(finding(why), steps=0, edits=True, others=("salun", "scrub"), **ORACLE)
    assert line == "Edit more strongly (the method's options), or try another method (--method salun or scrub)."


def test_few_rows_do_not_hide_that_a_run_ended_short() -> None:
    lines = advice(finding(Why.FEW), finds_rate=True, short="budget: 1 step", sizes={"forget": 4}, **ORACLE)
    assert [line[:30] for line in lines] == ["The run ended short of its lev", "The forget set has 4 examples,"]


def test_what_was_forgotten_too_well() -> None:
    (line,) = advice(finding(Why.BELOW), **ORACLE)
    assert line.startswith(
        "Leave --lr out, so that the run finds its rate, or end earlier (--max-steps): it forgot more than a model that"
    )


@pytest.mark.parametrize(("name", "why"), [("retain", Why.BELOW), ("general", Why.ABOVE)])
def test_what_had_to_stay_and_did_not(name: str, why: Why) -> None:
    (line,) = advice(finding(why, name), **ORACLE)
    assert line == "Leave --lr out: what had to stay was lost; give --replay FILE to rehearse."
    (line,) = advice(finding(why, name), takes=("forget", "retain"), finds_rate=True, **ORACLE)
    assert line == "Try another method (--method): what had to stay was lost; give more rows to --retain."


@pytest.mark.parametrize(("name", "why"), [("forget", Why.ABOVE), ("forget", Why.BELOW), ("retain", Why.BELOW)])
def test_nobody_who_gave_no_rate_is_told_to_leave_it_out(name: str, why: Why) -> None:
    (line,) = advice(finding(why, name), own_schedule=True, **ORACLE)
    assert line.startswith("Try another method (--method), or let the run look for its rate (--set control.kind=auto)")


def test_what_was_not_learned() -> None:
    assert advice(finding(Why.BELOW, "learn")) == ["Learn for longer (--epochs)."]
    (line,) = advice(finding(Why.BELOW, "learn"), rate_given=True)
    assert line == "Leave --lr out, so that it learns to the end."


def test_a_budget() -> None:
    (line,) = advice(finding(Why.HELD), outcome=Outcome.UNDECIDED, budget_ended="budget: 40 steps", **ORACLE)
    assert line == "The budget (40 steps) ended the run: give a larger one (--max-steps, --epochs)."
    for ended in ("budget: 3 seconds", "0.5 seconds", "1e-05 seconds"):
        (line,) = advice(finding(Why.HELD), outcome=Outcome.UNDECIDED, budget_ended=ended, **ORACLE)
        assert line.endswith("ended the run: give a larger one (--set training.max_seconds=...).")


def test_a_small_holdout_is_not_taken_for_a_small_forget_set() -> None:
    (line,) = advice(finding(Why.FEW), sizes={"forget": 30, "holdout": 1}, given=("holdout",))
    assert line == "The holdout set has 1 example: give at least 6 (--holdout FILE)."


def test_several_causes_give_several_lines_once_each() -> None:
    lines = advice(finding(Why.AS_KNOWN), finding(Why.ABOVE), finding(Why.BELOW, "retain"), **ORACLE)
    assert len(lines) == 2


def test_an_estimate_that_nothing_checks() -> None:
    (line,) = advice(finding(Why.HELD), outcome=Outcome.UNDECIDED, level=True, doubted=True, given=("forget", "retain"))
    assert line == (
        "Give rows of the same kind that the model never saw (--holdout FILE) or general text (--replay FILE and "
        "--general FILE), which check the estimate, or a model retrained without the forget set: --oracle DIR, or "
        "--make-oracle --base DIR."
    )
    given = ("forget", "retain", "holdout", "general")
    (line,) = advice(finding(Why.HELD), outcome=Outcome.UNDECIDED, level=True, doubted=True, given=given)
    assert line == "Give a model retrained without the forget set: --oracle DIR, or --make-oracle --base DIR."


def test_general_text_checks_no_estimate_of_classes() -> None:
    of_images = finding(Why.HELD)._replace(metric="accuracy")
    (line,) = advice(of_images, outcome=Outcome.UNDECIDED, level=True, doubted=True, given=("forget", "holdout"))
    assert line == "Give a model retrained without the forget set: --oracle DIR, or --make-oracle --base DIR."


def test_a_run_that_ended_short_is_not_told_that_its_rows_are_too_few() -> None:
    across = finding(Why.ACROSS)
    lines = advice(across, outcome=Outcome.UNDECIDED, finds_rate=True, short="stalls", sizes={"forget": 10}, **ORACLE)
    assert [line for line in lines if "too few" in line] == []


def test_metrics_that_were_left_out_are_to_be_measured_and_no_set_to_be_given() -> None:
    missing = finding(Why.NOT_BY_THIS, "retain"), finding(Why.NOT_BY_THIS), finding(Why.HELD)._replace(metric="ma")
    lines = advice(*missing, outcome=Outcome.UNDECIDED, metrics=["ma", "prob"], **ORACLE)
    assert lines == ["Measure es too: --set measuring.metrics=[es,ma,prob]."]


def test_what_never_held_is_no_loss() -> None:
    never = finding(Why.BELOW, "retain")._replace(since=Since.NEVER)
    assert advice(never, **ORACLE) == [
        "The retain set missed the bound on es before the run already: ask that it keeps what it had, --gate 'retain "
        "es >= 0.90 * before'."
    ]
    assert advice(finding(Why.ABOVE, "retain")._replace(since=Since.OTHER), **ORACLE) == []
