"""Is the forget set as known as before, and does the oracle know it? Each case with numbers that can be checked."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from palimpsest.audit.judging import Finding, Why
from palimpsest.audit.known import counted_no_more, distrusting, known_checks
from palimpsest.models.families.yardsticks import BY_CLASSES, BY_TOKENS, Judging
from palimpsest.records import Direction, GateResult, Outcome, Score

Column = dict[str, Sequence[float]]


def score(values: Sequence[float], metric: str) -> Score:
    mean = sum(values) / len(values)
    by_id = {str(i): v for i, v in enumerate(values)}
    return Score(metric, mean, min(values), max(values), len(values), 0, Direction.HIGHER, "share", 1, by_id)


def check(
    n: int = 8, *, judging: Judging = BY_TOKENS, holdout: dict[str, Column] | None = None, **columns: Column
) -> list[Finding]:
    """Findings for forget scores per column, repeated to n examples, and for a holdout per column."""
    scores: dict[str, dict[str, dict[str, Score]]] = {}
    for name, sets in (("forget", columns), ("holdout", holdout or {})):
        for column, metrics in sets.items():
            found = {m: score([v[i % len(v)] for i in range(n)], m) for m, v in metrics.items()}
            scores.setdefault(column, {})[name] = found
    return list(known_checks(scores, judging=judging))


def outcome(n: int = 8, **how: object) -> tuple[Outcome, Why]:
    first = check(n, **how)[0]  # type: ignore[arg-type]
    return first.outcome, first.why


KNOWN: Column = {"es": [1.0], "ma": [1.0]}
NEVER_SEEN: Column = {"es": [0.02], "ma": [0.4]}


@pytest.mark.parametrize("n", [1, 5, 6, 12])
def test_nothing_moved_fails_without_an_oracle_for_any_number_of_rows(n: int) -> None:
    found = check(n, before=KNOWN, after={"es": [0.96], "ma": [1.0]})
    assert [(f.outcome, f.why) for f in found] == [(Outcome.FAILED, Why.AS_KNOWN)]
    assert found[0].result.sentence == (
        f"forget es 1.00 before and 0.96 after (drop +0.04 [+0.04, +0.04]), ma 1.00 before and 1.00 after (drop 0.00 "
        f"[0.00, 0.00]), n {n}: failed, the forget set is as known as before, no drop reaches 0.10."
    )


def test_nothing_moved_fails_beside_an_oracle_and_a_holdout() -> None:
    failed = (Outcome.FAILED, Why.AS_KNOWN)
    assert outcome(before=KNOWN, after=KNOWN, oracle=NEVER_SEEN) == failed
    assert outcome(before=KNOWN, after=KNOWN, level=NEVER_SEEN) == failed
    holdout = {"before": NEVER_SEEN, "after": NEVER_SEEN}
    assert outcome(before=KNOWN, after=KNOWN, holdout=holdout) == failed


def test_what_fell_is_no_longer_as_known() -> None:
    assert outcome(before=KNOWN, after={"es": [0.5], "ma": [1.0]}) == (Outcome.PASSED, Why.HELD)
    # From 0.25 to 0.16 is a drop of 0.09, and 0.16 is within 0.10 of the oracle's 0.12: it is where it should be.
    near = {"before": {"es": [0.25]}, "after": {"es": [0.16]}, "oracle": {"es": [0.12]}}
    assert outcome(**near) == (Outcome.PASSED, Why.HELD)


def test_a_drop_that_may_be_large_or_small_is_undecided() -> None:
    # Drops of 0 and 0.25, four of each: the interval of their mean, 0.125, straddles 0.10.
    after = {"es": [1.0, 0.75], "ma": [1.0, 0.75]}
    assert outcome(before=KNOWN, after=after) == (Outcome.UNDECIDED, Why.ACROSS)
    # Of two rows one has dropped: no longer every row is as known as before, and nothing is shown either.
    assert outcome(2, before=KNOWN, after=after) == (Outcome.UNDECIDED, Why.ACROSS)


@pytest.mark.parametrize("n", [1, 8])
def test_what_was_never_known_is_not_called_a_failure(n: int) -> None:
    passed = (Outcome.PASSED, Why.HELD)
    unseen = {"before": {"es": [0.2], "ma": [0.5]}, "after": {"es": [0.2], "ma": [0.5]}}
    assert outcome(n, **unseen, holdout={"before": {"es": [0.15], "ma": [0.45]}, "after": NEVER_SEEN}) == passed
    assert outcome(n, **unseen, level={"es": [0.12], "ma": [0.42]}) == passed
    assert outcome(n, before=NEVER_SEEN, after=NEVER_SEEN) == passed  # no level is below 0, and ES is near it
    assert outcome(n, **unseen)[0] is Outcome.FAILED  # nothing shows that it was not known


def test_an_oracle_that_knows_the_forget_set_is_no_level() -> None:
    knows = {"es": [0.97], "ma": [1.0]}
    found = check(before=KNOWN, after=knows, oracle=knows)
    assert [(f.outcome, f.why) for f in found] == [(Outcome.UNDECIDED, Why.ORACLE_KNOWS)] * 2
    assert found[1].result.sentence == (
        "the oracle answers the forget set as well as the model before (es 0.97 and 1.00, ma 1.00 and 1.00): "
        "undecided, it seems to know the forget set, or the set was never known."
    )
    # Also where the set was forgotten: that oracle is not to be met.
    assert check(before=KNOWN, after=NEVER_SEEN, oracle=knows)[-1].why is Why.ORACLE_KNOWS
    # A holdout shows that the set was known: then nothing moved is a failure, whatever the oracle says.
    holdout = {"before": NEVER_SEEN, "after": NEVER_SEEN}
    assert outcome(before=KNOWN, after=KNOWN, oracle=knows, holdout=holdout) == (Outcome.FAILED, Why.AS_KNOWN)


def test_an_oracle_as_good_as_the_model_is_fine_where_the_set_was_never_known() -> None:
    assert len(check(before=NEVER_SEEN, after=NEVER_SEEN, oracle=NEVER_SEEN)) == 1
    near = {"es": [0.2], "ma": [0.5]}
    assert len(check(before=near, after=near, oracle=near)) == 2
    holdout = {"before": near, "after": near}
    assert len(check(before=near, after=near, oracle=near, holdout=holdout)) == 1


def test_what_is_held_against_an_oracle_that_knows_is_undecided() -> None:
    checks = check(before=KNOWN, after=NEVER_SEEN, oracle=KNOWN)
    failed = GateResult("forget es within 0.10 of the oracle's", Outcome.FAILED, "forget es is 0.02: failed, no part.")
    below = Finding("forget", "es", "oracle", Why.BELOW, failed)
    kept = Finding("retain", "es", "before", Why.BELOW, failed)
    found = distrusting([*checks, below, kept])
    assert [f.outcome for f in found[-2:]] == [Outcome.UNDECIDED, Outcome.FAILED]
    assert found[-2].result.sentence == "forget es is 0.02: undecided, the oracle seems to know the forget set."
    assert distrusting([below, kept]) == (below, kept)


def test_images_go_by_accuracy_and_probability() -> None:
    before: Column = {"accuracy": [1.0], "prob": [0.98]}
    failed = (Outcome.FAILED, Why.AS_KNOWN)
    assert outcome(judging=BY_CLASSES, before=before, after={"accuracy": [1.0], "prob": [0.95]}) == failed
    moved: Column = {"accuracy": [1.0], "prob": [0.6]}
    assert outcome(judging=BY_CLASSES, before=before, after=moved) == (Outcome.PASSED, Why.HELD)


def test_other_metrics_stand_in_where_the_plan_measures_no_usual_one() -> None:
    failed = (Outcome.FAILED, Why.AS_KNOWN)
    assert outcome(before={"prob": [0.9]}, after={"prob": [0.88]}) == failed
    assert outcome(before={}, after={}) == (Outcome.UNDECIDED, Why.UNMEASURED)


def of_texts(n: int, share: float, after: float = 1.0) -> tuple[Outcome, Why, str]:
    """All of n texts right before; an estimated level of so many that are right unseen."""
    column = {"before": [1.0] * n, "after": [after] * n, "level": [share] * n}
    scores = {c: {"forget": {"accuracy": score(values, "accuracy")}} for c, values in column.items()}
    for name in ("before", "after"):
        scores[name]["forget"]["prob"] = score([0.99] * n, "prob")
    (found,) = known_checks(scores, judging=BY_CLASSES)
    return found.outcome, found.why, found.result.sentence


@pytest.mark.parametrize(("n", "share"), [(1, 0.93), (7, 0.75), (20, 0.9)])
def test_few_texts_that_unseen_ones_may_be_right_like_are_no_failure(n: int, share: float) -> None:
    """1.96 · √(p (1 − p) / n) is 0.50, 0.32 and 0.13: each more than 1 − p."""
    outcome, why, sentence = of_texts(n, share)
    assert (outcome, why) == (Outcome.UNDECIDED, Why.BY_CHANCE)
    assert "may be right by chance" in sentence


@pytest.mark.parametrize(("n", "share"), [(1, 0.0), (7, 0.5), (100, 0.74)])
def test_more_than_chance_is_a_failure(n: int, share: float) -> None:
    """0, 0.37 and 0.09, each less than 1 − p; what a class that is gone scores is not left to chance."""
    assert of_texts(n, share)[:2] == (Outcome.FAILED, Why.AS_KNOWN)


def test_a_metric_that_the_level_lacks_makes_nothing_known() -> None:
    """400 texts, of which 97 % are right unseen: accuracy is at its level, and no level says what prob should be."""
    outcome, why, sentence = of_texts(400, 0.97)
    assert (outcome, why) == (Outcome.PASSED, Why.HELD)
    assert "it was not known before" in sentence


def test_rows_that_were_taken_off_a_head_fail_nothing_by_being_known() -> None:
    """A head that never saw them may name them; what fell all the same is passed as ever."""
    (found,) = counted_no_more(check(before=KNOWN, after=KNOWN))
    assert (found.outcome, found.why) == (Outcome.UNDECIDED, Why.TAKEN_OFF)
    assert found.result.sentence.endswith(
        "n 8: undecided, it was taken off what the head counts, and a head that never saw it may know it as well."
    )
    fell = tuple(check(before=KNOWN, after=NEVER_SEEN))
    assert counted_no_more(fell) == fell
