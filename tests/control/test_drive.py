"""What the closed loop decides, in a world of two numbers (world.py)."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
from tests.control.world import World, reading

from palimpsest.control import drive
from palimpsest.control.drive import AT_LEVEL, MOST_REFUSED, Guided, _Drive
from palimpsest.control.goal import Aims, Goal, Used
from palimpsest.control.level import Level
from palimpsest.control.settings import Control

SETTINGS = Control(budget=60, cooling=2, repairs=1, second_starts=1)
LEVEL = 0.4


def driving(monkeypatch: pytest.MonkeyPatch, control: Control = SETTINGS, known: float = 1.0, **how: float) -> _Drive:
    """A run at its beginning; its hands are a world."""
    world = World(control, **how)
    monkeypatch.setattr(drive, "Hands", lambda job, tools: world)
    monkeypatch.setattr(drive, "sweep", lambda hands, name, before, crosses: hands.note("sweep", ""))
    job: Any = SimpleNamespace(training=SimpleNamespace(batch_size=4), method=SimpleNamespace(repairs_itself=False))
    goal = Goal(Level("shadow", reading(LEVEL)), reading(known), control.tolerance)
    tools: Any = SimpleNamespace(control=control)
    return _Drive(job, Guided(tools, Aims(goal)))


def world_of(run: _Drive) -> Any:
    return run.hands


def begun(run: _Drive) -> _Drive:
    """After its sweep."""
    run._sweep()
    return run


def test_a_run_ends_at_its_level(monkeypatch):
    run = driving(monkeypatch, harm=1.0, heal=0.5)
    ended = run.run()
    assert (ended.stopped, ended.short, ended.unchanged) == (AT_LEVEL, None, None)
    assert 1 - world_of(run).at[0] == pytest.approx(LEVEL, abs=0.1)
    assert world_of(run).kept[run.state.best] == world_of(run).at


def test_what_was_not_known_takes_no_step(monkeypatch):
    run = driving(monkeypatch, known=LEVEL)
    ended = run.run()
    assert ended.steps == 0
    assert ended.unchanged == ended.stopped == "the forget set was not known: nothing to do"
    assert ended.short is None
    assert world_of(run).kept == {}


def test_a_round_that_breaks_a_floor_is_taken_back(monkeypatch):
    run = begun(driving(monkeypatch, harm=100.0))
    run._round()
    assert world_of(run).at == (0.0, 0.0)
    assert (run.state.rate, run.state.repairs, run.state.refused, run.state.stage) == (0.05, 2, 1, "round")
    assert world_of(run).done[-2:] == [("back", run.state.start), "taken back"]


def test_a_round_that_diverges_is_taken_back(monkeypatch):
    run = begun(driving(monkeypatch))
    world_of(run).diverges_at = 0.06
    run._round()
    assert world_of(run).at == (0.0, 0.0)
    assert "taken back" in world_of(run).done
    run._round()
    assert world_of(run).done[-1] == "accepted"
    assert run.state.refused == 0


def test_a_round_that_overshoots_is_taken_back_without_more_repairs(monkeypatch):
    run = begun(driving(monkeypatch, gain=9.0))
    run._round()
    assert world_of(run).at == (0.0, 0.0)
    assert (run.state.rate, run.state.repairs) == (0.05, SETTINGS.repairs)


def test_nothing_within_the_floors_leaves_the_weights_from_before(monkeypatch):
    run = driving(monkeypatch, harm=1000.0)
    ended = run.run()
    assert run.state.refused == MOST_REFUSED
    assert world_of(run).at == (0.0, 0.0)
    assert ended.unchanged == ended.short == ended.stopped
    assert ended.stopped.endswith("the weights are those from before the run")


def test_what_is_within_the_floors_on_the_way_but_not_cooled_is_not_kept(monkeypatch):
    """Between the final floor and the transient one a round is accepted and nothing is saved."""
    run = driving(monkeypatch, Control(budget=3, cooling=1, repairs=0), harm=7.0)
    ended = run.run()
    assert world_of(run).done.count("accepted") >= 1
    assert world_of(run).at == (0.0, 0.0)
    assert ended.unchanged is not None


def test_the_best_cooled_weights_are_kept(monkeypatch):
    run = begun(driving(monkeypatch))
    world = world_of(run)
    world.at = (0.3, 1.0)
    best = run._keep_if_best(run._standing(), Used(1.0, None))
    for worse in ((0.2, 1.0), (0.5, 2.0)):  # further from the level; nearer, and a floor broken
        world.at = worse
        run._keep_if_best(run._standing(), Used(worse[1], None))
    assert run.state.best == best
    world.at = (0.5, 2.0)
    run.state.here, run.state.reason = run.hands.snap(), "budget: 60 steps"
    run._last()
    assert world.at == (0.3, 1.0)
    assert run.state.stage == "ended"
    assert run.state.reason == "budget: 60 steps; 50% of the way is left"
    run.state.iterations = 1
    assert run._ended().unchanged is None


def test_at_the_level_but_over_a_floor_goes_on(monkeypatch):
    run = begun(driving(monkeypatch))
    world_of(run).at = (0.6, 2.0)
    run._cool()
    assert run.state.stage == "round"
    assert run.state.best == run.state.start
    assert run.state.repairs == SETTINGS.repairs + 1


def test_over_forgotten_after_cooling_goes_back_to_the_round_before(monkeypatch):
    run = begun(driving(monkeypatch))
    world_of(run).at = (0.5, 0.0)
    run.state.earlier = run.hands.snap()
    world_of(run).at = (0.9, 0.0)
    run.state.here = run.hands.snap()
    run._cool()
    assert world_of(run).at == (0.5, 0.0)
    assert (run.state.overshoots, run.state.rate, run.state.stage) == (1, 0.05, "round")


def test_a_method_that_stalls_starts_anew_once_and_then_gives_up(monkeypatch):
    run = begun(driving(monkeypatch, gain=0.0))
    world_of(run).at = (0.1, 0.0)
    for _ in range(4):
        run._round()
    assert run.state.stage == "restart"
    world_of(run).at = (0.2, 0.0)
    run._restart()
    assert ("anew", 1, (0.2, 0.0)) in world_of(run).done, "reference and masks are those of the weights at hand"
    assert world_of(run).kept[run.state.anchor] == world_of(run).kept[run.state.here] == (0.2, 0.0)
    assert world_of(run).machine.state.step == 0
    assert (run.state.ways, run.state.nats, run.state.rate) == ([], [], run.state.first_rate)
    assert run.state.earlier == run.state.here
    for _ in range(4):
        run._round()
    assert (run.state.stage, run.state.reason) == ("last", "stalls after 1 second starts")


def test_what_a_first_start_reached_is_not_lost_when_the_second_breaks_a_floor(monkeypatch):
    run = begun(driving(monkeypatch))
    world_of(run).at = (0.3, 1.0)
    run._restart()
    world_of(run).at = (0.5, 2.0)  # nearer, and what must stay is gone
    run.state.here, run.state.reason, run.state.iterations = run.hands.snap(), "stalls", 1
    world_of(run).end_stage()
    run._last()
    assert world_of(run).at == (0.3, 1.0)
    assert (run.state.reason, run._ended().unchanged) == ("stalls; 50% of the way is left", None)


@pytest.mark.parametrize(
    ("spoken", "retain", "general", "kept"),
    [
        (True, 1.0, 2.0, True),
        (False, 1.0, 2.0, False),  # somebody gave general text: it stays
        (True, 2.0, 1.0, False),  # what was given to retain stays
        (True, 1.0, 3.0, False),  # and words of its own stay to some degree
    ],
)
def test_own_words_that_change_keep_no_run_from_forgetting(monkeypatch, spoken, retain, general, kept):
    run = begun(driving(monkeypatch))
    world = world_of(run)
    world.probes.spoken = spoken
    monkeypatch.setattr(World, "cool", lambda _world: Used(retain, general))
    world.at = (0.3, 0.0)
    run.state.here, run.state.reason = run.hands.snap(), "stalls"
    run._last()
    assert world.at == ((0.3, 0.0) if kept else (0.0, 0.0))
    assert (run.state.reason == "stalls; 50% of the way is left" + drive.OWN_WORDS_CHANGED) is kept
    assert not run.state.reached


def test_own_words_may_change_where_the_level_is_reached_only_so(monkeypatch):
    run = begun(driving(monkeypatch))
    world_of(run).probes.spoken = True
    monkeypatch.setattr(World, "cool", lambda _world: Used(1.0, 2.0))
    world_of(run).at = (1 - LEVEL, 0.0)
    run.state.here, run.state.reason = run.hands.snap(), "stalls"
    run._last()
    assert (run.state.reason, run.state.reached) == (AT_LEVEL + drive.OWN_WORDS_CHANGED, True)


def test_a_reading_that_is_not_finite_passes_nothing(monkeypatch):
    run = begun(driving(monkeypatch))
    monkeypatch.setattr(World, "floors", lambda world, **_how: Used(math.inf, None))
    run._round()
    assert "taken back" in world_of(run).done
    assert world_of(run).at == (0.0, 0.0)


def test_rows_at_their_level_rest(monkeypatch):
    run = begun(driving(monkeypatch))
    world_of(run).at = (0.7, 0.0)
    now = run._standing()
    run._go_on(now, 0.0)
    assert len(run.state.active) == 1, "at least one row is played"
    world_of(run).at = (0.1, 0.0)
    run._go_on(run._standing(), 0.0)
    assert len(run.state.active) == 4
