"""Part removal: what holds with a guard and not without it has passed as served, and no more."""

from __future__ import annotations

import pytest

from palimpsest.audit.gates import Gate, default_gates
from palimpsest.audit.removal import KNOWS, UNSURE, as_served, removal_of
from palimpsest.records import Direction, Outcome, Score, Verdict

GATES = [Gate(set="forget", metric="es", at_most=0.1, relative_to="oracle")]


def score(value: float, n: int = 8) -> Score:
    by_id = {str(i): value for i in range(n)}
    return Score("es", value, value, value, n, 0, Direction.HIGHER, "share", 1, by_id)


def table(**columns: float):
    return {column: {"forget": {"es": score(value)}} for column, value in columns.items()}


def verdict(outcome: Outcome) -> Verdict:
    return Verdict(outcome, f"{outcome.capitalize()}: all hold.", (), f"{outcome.capitalize()}: it is gone.")


def test_what_was_not_measured_changes_nothing():
    assert removal_of(table(before=1.0, after=0.0), GATES) is None
    assert as_served(verdict(Outcome.PASSED), None) == (verdict(Outcome.PASSED), None)


@pytest.mark.parametrize(("without", "words"), [(1.0, KNOWS), (0.5, KNOWS), (0.05, "")])
def test_the_weights_are_asked_by_the_same_gates(without, words):
    found = removal_of(table(before=1.0, after=0.0, without=without, oracle=0.0), GATES)
    assert found is not None
    assert found.words == words
    assert all(result.gate.startswith("part removal: ") for result in found.results)


def test_without_a_reference_the_drop_alone_decides_and_else_nobody_knows():
    assert removal_of(table(before=1.0, after=0.0, without=1.0), GATES).words == KNOWS
    assert removal_of(table(before=1.0, after=0.0, without=0.5), GATES).words == UNSURE


def test_it_has_passed_as_served_and_is_never_called_passed():
    found = removal_of(table(before=1.0, after=0.0, without=1.0, oracle=0.0), GATES)
    told, advice = as_served(verdict(Outcome.PASSED), found)
    assert told.outcome is Outcome.AS_SERVED
    assert told.sentence == (
        "Passed as served: with its part all hold. Without its part the model has forget es 1.00: "
        "the weights still know it."
    )
    assert told.plain.startswith("Passed as served: the weights still know it")
    assert advice
    assert not told.plain.startswith("Passed:")


def test_what_failed_stays_failed_and_says_it_too():
    found = removal_of(table(before=1.0, after=0.9, without=1.0, oracle=0.0), GATES)
    told, advice = as_served(verdict(Outcome.FAILED), found)
    assert told.outcome is Outcome.FAILED
    assert told.sentence.endswith("Without its part the model has forget es 1.00: the weights still know it.")
    assert told.plain == "Failed: it is gone. Without its part: the weights still know it."
    assert advice is None


def test_weights_that_forgot_too_have_passed():
    found = removal_of(table(before=1.0, after=0.0, without=0.0, oracle=0.0), GATES)
    assert as_served(verdict(Outcome.PASSED), found)[0].outcome is Outcome.PASSED


def test_the_gates_of_a_guard_are_upper_bounds_by_the_same_number():
    names = {"before", "after", "oracle"}
    guarded, usual = (default_gates("unlearn", names, {"forget", "retain"}, guards=g) for g in (True, False))
    assert [(g.at_most, g.within) for g in guarded[:2]] == [(0.1, None)] * 2
    assert [(g.at_most, g.within) for g in usual[:2]] == [(None, 0.1)] * 2
    assert guarded[2:] == usual[2:]
