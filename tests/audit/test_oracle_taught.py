"""An oracle that was not taught what stays shows no level, whatever it scores on what must go."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from palimpsest.audit.advice import AdviceFacts, advise
from palimpsest.audit.gates import default_gates
from palimpsest.audit.judging import Finding, Why, examine, sum_up
from palimpsest.audit.known import distrusting, known_checks
from palimpsest.audit.oracle_taught import untaught
from palimpsest.audit.plain_verdict import say_plainly
from palimpsest.metrics import build
from palimpsest.metrics.metric import Statistics
from palimpsest.records import Outcome, Score


def score(values: Sequence[float], metric: str = "es") -> Score:
    return build(metric, {}).compute({f"r{i}": Statistics(value, 1) for i, value in enumerate(values)})


def table(forget: dict[str, float], retain: dict[str, Sequence[float]]) -> dict[str, dict[str, dict[str, Score]]]:
    """Column -> scores: one value for all of six forget rows, and values of the retain rows."""
    return {
        column: {
            "forget": {m: score([forget[column]] * 6, m) for m in ("es", "ma")},
            "retain": {m: score(retain[column], m) for m in ("es", "ma")},
        }
        for column in forget
    }


def judged(oracle: Sequence[float], *, after: float = 0.0) -> tuple[Outcome, str]:
    scores = table(
        {"before": 1.0, "after": after, "oracle": 0.0}, {"before": [1.0] * 8, "after": [1.0] * 8, "oracle": oracle}
    )
    gates = default_gates("unlearn", scores.keys(), ("forget", "retain"))
    findings = distrusting((*known_checks(scores), *examine(gates, scores)))
    outcome = sum_up(findings).outcome
    return outcome, say_plainly(findings, outcome, scores)


def test_a_good_run_beside_a_taught_oracle_passes() -> None:
    assert judged([1.0] * 8)[0] is Outcome.PASSED
    assert judged([1.0] * 7 + [0.0])[0] is Outcome.PASSED  # 0.125 less, of which the interval reaches 0


@pytest.mark.parametrize("oracle", [[0.0] * 8, [1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0]], ids=["never", "half"])
def test_the_same_run_beside_one_that_knows_less_of_what_stays_is_undecided(oracle: Sequence[float]) -> None:
    outcome, plain = judged(oracle)
    assert outcome is Outcome.UNDECIDED
    assert plain.startswith("Undecided: the oracle knows less of what stays than the model")
    assert "that never saw it scores" not in plain  # its own score is no level


def test_what_is_as_known_as_before_stays_failed_beside_it() -> None:
    outcome, plain = judged([0.0] * 8, after=1.0)
    assert outcome is Outcome.FAILED
    assert "as known as before" in plain


def finding(before: Sequence[float], oracle: Sequence[float]) -> Finding | None:
    return untaught({"before": {"retain": {"es": score(before)}}, "oracle": {"retain": {"es": score(oracle)}}})


def test_a_run_that_ended_short_of_what_is_no_level_is_told_of_the_oracle() -> None:
    columns = {"before": [1.0] * 8, "after": [1.0] * 8, "oracle": [0.0] * 8}
    scores = table({"before": 1.0, "after": 0.3, "oracle": 0.0}, columns)
    gates = default_gates("unlearn", scores.keys(), ("forget", "retain"))
    findings = distrusting((*known_checks(scores), *examine(gates, scores)))
    plain = say_plainly(findings, Outcome.UNDECIDED, scores, short="stalls after 2 second starts")
    assert plain.startswith("Undecided: the oracle knows less of what stays than the model")
    facts = AdviceFacts(findings, Outcome.UNDECIDED, finds_rate=True, short="stalls", given=("oracle", "retain"))
    (line,) = advise(facts)
    assert line.startswith("Leave this oracle out")


def test_what_nobody_can_tell_is_not_said() -> None:
    assert finding([1.0] * 5, [0.0] * 5) is None  # fewer than six
    assert finding([0.05] * 8, [0.0] * 8) is None  # the model does not know them either: the base is the exact oracle
    assert untaught({"before": {}, "oracle": {}}) is None
    found = finding([1.0] * 6, [0.0] * 6)
    assert found is not None
    assert found.why is Why.ORACLE_UNTAUGHT
