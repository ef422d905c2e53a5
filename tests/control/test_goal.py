"""Ways, floors and stalls by hand."""

from __future__ import annotations

import math

import pytest

from palimpsest.control.goal import Goal, Lesson, Used, stalls, used
from palimpsest.control.level import Level, from_oracle
from palimpsest.control.readings import Reading, RowReading
from palimpsest.control.settings import Control


def reading(*rows: tuple[float, float, float], length: int = 100) -> Reading:
    """Rows of (nats per position, MA, ES)."""
    return Reading({f"r{n}": RowReading(nats * length, length, ma, es) for n, (nats, ma, es) in enumerate(rows)})


GOAL = Goal(from_oracle(reading((3.0, 0.4, 0.0), (3.0, 0.6, 0.1))), reading((0, 1, 1), (0, 1, 1)), 0.03)


def test_the_way_is_the_larger_share_that_is_left():
    """MA: (0.75 − 0.5) / (1 − 0.5) = 0.5; ES: (0.145 − 0.05) / (1 − 0.05) = 0.1."""
    assert GOAL.way(reading((1, 0.75, 0.145), (1, 0.75, 0.145))) == pytest.approx(0.5)
    assert GOAL.way(GOAL.before) == pytest.approx(1)
    assert GOAL.way(reading((9, 0.2, 0), (9, 0.2, 0))) == 0


@pytest.mark.parametrize(("ma", "es", "there"), [(0.53, 0.08, True), (0.54, 0.0, False), (0.5, 0.09, False)])
def test_reached_within_the_tolerance_of_both(ma, es, there):
    assert GOAL.reached(reading((1, ma, es), (1, ma, es))) is there


def test_a_set_of_few_tokens_is_judged_in_half_tokens():
    """One row of 5 tokens: half a token is 0.1 of MA."""
    goal = Goal(from_oracle(reading((3.0, 0.4, 0.0), length=5)), reading((0, 1, 1), length=5), 0.03)
    assert goal.reached(reading((1, 0.5, 0.0), length=5))
    assert not goal.reached(reading((1, 0.6, 0.0), length=5))
    assert not goal.overshot(reading((1, 0.2, 0.0), length=5))
    assert goal.overshot(reading((1, 0.1, 0.0), length=5))


def classes(*rows: tuple[float, float]) -> Reading:
    """Rows of (nats, right or wrong), each of one scored position."""
    return reading(*((nats, ma, ma) for nats, ma in rows), length=1)


def test_few_rows_of_a_class_are_judged_in_half_rows():
    """One row that nine unseen ones of ten are right like is not known for being right; one of ten is."""
    before = classes((0.1, 1.0))
    assert Goal(Level("holdout", classes((0.5, 0.9)), things="text"), before, 0.03).reached(before)
    assert not Goal(Level("holdout", classes((2.0, 0.1)), things="text"), before, 0.03).reached(before)


def test_where_words_tell_the_class_as_many_rows_work_as_are_too_many():
    """Level 0.2 + 0.8 + 0.8 + 0.8 = 2.6 of 4: two are too many, first the one that is least to be expected."""
    goal = Goal(
        Level("holdout", classes((2, 0.2), (1, 0.8), (1, 0.8), (1, 0.8)), by_words=True),
        classes(*[(0.1, 1.0)] * 4),
        0.03,
    )
    assert goal.active(classes((0.01, 1), (0.1, 1), (0.3, 1), (0.2, 1))) == ["r0", "r2"]
    assert goal.active(classes((3.0, 0), (0.1, 1), (0.3, 1), (0.2, 1))) == ["r2"]
    assert goal.active(classes((3.0, 0), (0.1, 1), (2.0, 0), (0.2, 1))) == ["r3"]


def test_rows_at_their_own_level_rest_and_one_always_works():
    assert GOAL.active(reading((1, 0.45, 0.0), (1, 0.55, 0.0))) == ["r0"]
    assert GOAL.active(reading((1, 0.39, 0.0), (1, 0.55, 0.2))) == ["r1"]
    assert GOAL.active(reading((1, 0.1, 0.0), (1, 0.5, 0.0))) == ["r1"]
    assert GOAL.active(reading((1, 0.39, 0.0), (1, 0.55, 0.0)), below=0.1) == ["r0", "r1"]


def test_floors_by_hand():
    """Retain: ES 1 to 0.96 is 0.8 units, 0.1 nats are 2. General: ln 1.05 is one unit."""
    control = Control()
    before, now = reading((0.1, 1, 1)), reading((0.1, 1, 0.96))
    assert used(control, (before, now), None).retain == pytest.approx(0.8)
    assert used(control, (before, reading((0.2, 1, 1))), None).retain == pytest.approx(2)
    general = used(control, None, (reading((2, 0, 0)), reading((2 + math.log(1.05), 0, 0))))
    assert (general.retain, general.general) == (None, pytest.approx(1))
    assert used(control, None, None).most == 0


def test_what_is_no_number_passes_no_floor():
    assert used(Control(), (reading((0.1, 1, 1)), reading((math.nan, 0, 0))), None).most == math.inf


def test_the_es_of_an_unknown_retain_set_is_no_floor():
    assert used(Control(), (reading((3, 0.4, 0.01)), reading((3, 0.4, 0.0))), None).retain == 0


@pytest.mark.parametrize(
    ("floors", "share"), [(Used(1, 1), 0.5), (Used(0, 0), 0.5), (Used(0, 5), 0.745), (Used(5, 0), 0.255)]
)
def test_replay_gets_the_larger_share_where_general_text_suffers(floors, share):
    assert floors.replay_share == pytest.approx(share, abs=1e-3)


def test_a_stall_is_neither_nearer_nor_higher():
    assert not stalls([1, 0.9, 0.8], [1, 1, 1])
    assert stalls([0.5, 0.5, 0.49, 0.48], [4, 4, 4, 4])
    assert not stalls([0.5, 0.5, 0.49, 0.44], [4, 4, 4, 4])
    assert not stalls([0.5, 0.5, 0.5, 0.5], [4, 4, 4, 4.7])


def test_a_lesson_is_learned_at_its_target():
    lesson = Lesson(before=2.05, target=0.05)
    assert lesson.way(reading((1.05, 0, 0))) == pytest.approx(0.5)
    assert lesson.way(reading((0.05, 0, 0))) == 0
