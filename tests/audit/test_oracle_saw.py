"""An oracle that saw single rows of the forget set shows no level."""

from __future__ import annotations

from itertools import combinations

import pytest
from tests.audit.test_oracle_taught import score

from palimpsest.audit.advice import AdviceFacts, advise
from palimpsest.audit.gates import default_gates
from palimpsest.audit.judging import Why, examine, sum_up
from palimpsest.audit.known import distrusting, known_checks
from palimpsest.audit.oracle_saw import chance_of_best, rows_seen
from palimpsest.audit.plain_verdict import say_plainly
from palimpsest.records import Outcome

UNSEEN = [0.05, 0.1, 0.15, 0.2, 0.3] * 12
"""What the oracle scores on 60 rows that nobody saw."""


def table(oracle, *, before=1.0, unseen=UNSEEN):
    """Six forget rows that the run brought to where the oracle has them, and what stays as it was."""
    forget = {"before": [before] * 6, "after": oracle, "oracle": oracle}
    return {
        column: {
            "forget": {m: score(values, m) for m in ("es", "ma")},
            "retain": {m: score([1.0] * 8, m) for m in ("es", "ma")},
            "holdout": {m: score(unseen, m) for m in ("es", "ma")},
        }
        for column, values in forget.items()
    }


def judged(scores):
    findings = distrusting((*known_checks(scores), *examine(default_gates("unlearn", scores, ("forget",)), scores)))
    outcome = sum_up(findings).outcome
    return outcome, say_plainly(findings, outcome, scores), findings


@pytest.mark.parametrize(("best", "rows", "others"), [(0, 2, 3), (1, 2, 3), (2, 2, 3), (2, 4, 2), (3, 3, 4)])
def test_the_chance_is_that_of_all_orders(best, rows, others):
    """Each set of places for the forget rows among all is as likely as any other; the k first must be theirs."""
    places = list(combinations(range(rows + others), rows))
    held = sum(set(range(best)) <= set(those) for those in places)
    assert chance_of_best(best, rows, others) == pytest.approx(held / len(places))


@pytest.mark.parametrize(
    ("oracle", "seen"),
    [
        ([0.1] * 6, None),
        ([1.0, *[0.1] * 5], None),  # 6 / 66: one of six may repeat what stays
        ([1.0, 1.0, *[0.1] * 4], (2, 6)),  # 6 · 5 / (66 · 65) = 0.007
        ([0.95, 1.0, *[0.1] * 4], (2, 6)),
        ([0.85, 1.0, *[0.1] * 4], None),  # one of the two is less known than by the model that learned it
    ],
)
def test_rows_that_the_oracle_knows_by_heart_are_counted(oracle, seen):
    assert rows_seen(table(oracle)) == seen


def test_rows_that_it_knows_better_than_the_model_before_count_as_well():
    assert rows_seen(table([1.0, 1.0, *[0.1] * 4], before=0.2)) == (2, 6)


def test_nothing_is_said_without_rows_to_compare_with_or_where_such_rows_are_known_as_well():
    known = [1.0, 1.0, *[0.1] * 4]
    assert rows_seen(table(known, unseen=[*UNSEEN, 1.0])) is None
    assert rows_seen(table(known, unseen=[0.1] * 20)) is None  # 6 · 5 / (26 · 25) = 0.046
    assert rows_seen(table([0.35, 0.35, *[0.1] * 4], before=0.35)) is None  # not known much better than unseen rows
    without = {column: {k: v for k, v in sets.items() if k != "holdout"} for column, sets in table(known).items()}
    assert rows_seen(without) is None


def test_a_run_that_kept_what_its_oracle_saw_does_not_pass():
    outcome, plain, findings = judged(table([1.0, 1.0, *[0.1] * 4]))
    assert outcome is Outcome.UNDECIDED
    assert plain.startswith("Undecided: the oracle seems to have seen rows of the forget set")
    assert "2 of 6 forget rows" in " ".join(f.result.sentence for f in findings)
    assert "Leave this oracle out" in advise(AdviceFacts(findings, outcome, given={"oracle"}))[0]
    assert Why.ORACLE_SAW in {f.why for f in findings}
    assert judged(table([0.1] * 6))[0] is Outcome.PASSED
