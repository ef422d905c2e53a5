"""The aim of an edit: what counts is told by what was asked for, by hand."""

from __future__ import annotations

import pytest

from palimpsest.control import aim as module
from palimpsest.control.aim import EditSight, LevelAim
from palimpsest.control.goal import Goal
from palimpsest.control.level import from_oracle
from palimpsest.control.readings import Reading, RowReading


def reading(ma: float, es: float) -> Reading:
    """One row of 100 positions."""
    return Reading({"r": RowReading(100.0, 100, ma, es)})


GOAL = Goal(from_oracle(reading(0.4, 0.1)), reading(1.0, 1.0), 0.03)


@pytest.mark.parametrize(
    ("by", "ma", "es", "reached", "known", "level"),
    [
        ("rows", 0.42, 0.12, True, 0.42, 0.4),
        ("rows", 0.42, 0.2, False, 0.42, 0.4),
        ("words", 0.42, 0.9, True, 0.42, 0.4),
        ("words", 0.44, 0.0, False, 0.44, 0.4),
        ("strength", 0.9, 0.12, True, 0.12, 0.1),
        ("strength", 0.0, 0.14, False, 0.14, 0.1),
    ],
)
def test_what_counts_is_what_was_asked_for(monkeypatch, by, ma, es, reached, known, level):
    monkeypatch.setattr(module, "read", lambda *_, **__: reading(ma, es))
    aim = LevelAim(GOAL, None, by)
    assert aim.known == level
    assert aim(None) == EditSight(reached, known)
