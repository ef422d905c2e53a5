"""What ends a run at fixed rates, and what it says of it."""

from __future__ import annotations

import pytest

from palimpsest.loop.budget import Budget, end_by_budget, ended_by_check
from palimpsest.loop.sampler import IdStream
from palimpsest.loop.state import State
from palimpsest.loop.stopping import Check


def at(**where: float) -> State:
    return State(IdStream("forget", ("a", "b"), 0), {}, **where)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("where", "spent"),
    [
        ({"step": 9, "seconds": 4.9}, None),
        ({"step": 10, "seconds": 4.9}, "10 steps"),
        ({"step": 9, "seconds": 5.0}, "5 seconds"),
        ({"step": 10, "seconds": 5.0}, "10 steps"),  # the one that can be repeated is the one that is told
    ],
)
def test_a_step_spends_steps_and_seconds(where: dict[str, float], spent: str | None) -> None:
    assert Budget(10, 3, 5.0).spent_after_step(at(**where)) == spent


def test_an_epoch_is_refused_when_all_were_had() -> None:
    assert Budget(10, 3).spent_before_epoch(at(epoch=2)) is None
    assert Budget(10, 3).spent_before_epoch(at(epoch=3)) == "3 epochs"
    assert Budget(10).spent_before_epoch(at(epoch=1000)) is None


@pytest.mark.parametrize(
    ("check", "stopped", "budget"),
    [
        (Check(("a",)), None, None),
        (Check(()), "all examples pass", None),
        (Check((), stop="floor"), "all examples pass", None),
        (Check(("a",), satisfied="enough"), "enough", None),
        (Check(("a",), stop="floor"), "floor", "floor"),
    ],
    ids=["goes-on", "all", "all-and-floor", "enough", "floor"],
)
def test_a_check_ends_a_run(check: Check, stopped: str | None, budget: str | None) -> None:
    first, later = at(), at(step=1)
    assert ended_by_check(first, check) == ended_by_check(later, check) == (stopped is not None)
    assert (later.stopped, later.budget, later.unchanged) == (stopped, budget, None)
    assert first.unchanged == stopped  # nothing moved before the first step


def test_a_budget_says_whether_the_stopping_was_satisfied() -> None:
    planned, short, just = at(step=10), at(step=10), at(step=10)
    end_by_budget(planned, "10 steps", None)
    end_by_budget(short, "10 steps", Check(("a",)))
    end_by_budget(just, "10 steps", Check(()))
    assert (planned.stopped, planned.budget) == ("10 steps as planned", None)
    assert (short.stopped, short.budget) == ("budget: 10 steps; 1 example does not pass yet", "10 steps")
    assert (just.stopped, just.budget) == ("all examples pass", None)
