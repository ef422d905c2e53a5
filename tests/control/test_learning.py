"""What a controlled learning run decides, in a world of two numbers (world.py)."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
from tests.control.world import World, reading
from torch import nn

from palimpsest.control import learning
from palimpsest.control.learning import LEAST_ROUND, MOST_REFUSED_ROUNDS, Taught, _Teaching
from palimpsest.control.settings import Control

SETTINGS = Control(budget=200, cooling=2, repairs=1)


def teaching(
    monkeypatch: pytest.MonkeyPatch, *, gain: float = 0.2, control: Control = SETTINGS, **how: float
) -> _Teaching:
    """A run at its beginning; its hands are a world, and what it learns is what the world calls forgotten."""
    world = World(control, gain=gain, **how)
    monkeypatch.setattr(learning, "Hands", lambda job, tools: world)
    monkeypatch.setattr(learning, "sweep", lambda hands, name, before, crosses, furthest: hands.note("sweep", ""))
    job: Any = SimpleNamespace(training=SimpleNamespace(batch_size=4), sets={"forget": range(4)}, model=nn.Identity())
    tools: Any = SimpleNamespace(control=control)
    return _Teaching(job, Taught(tools, "learn", reading(0.0), validates=False))


def world_of(run: _Teaching) -> Any:
    return run.hands


def test_what_is_known_by_heart_ends_the_run(monkeypatch):
    run = teaching(monkeypatch)
    ended = run.run()
    assert (ended.stopped, ended.unchanged) == ("known by heart", None)
    assert world_of(run).at[0] >= 0.98
    assert world_of(run).at == world_of(run).kept[run.state.best]


def test_a_round_that_broke_a_floor_is_taken_back(monkeypatch):
    run = teaching(monkeypatch, harm=100.0)
    run._sweep()
    run._round()
    assert world_of(run).at == (0.0, 0.0)
    assert (run.state.rate, run.state.ceiling, run.state.repairs, run.state.refused) == (0.05, 0.05, 2, 1)


def test_no_round_within_the_floors_leaves_the_weights_from_before(monkeypatch):
    run = teaching(monkeypatch, harm=1000.0)
    ended = run.run()
    assert run.state.refused == MOST_REFUSED_ROUNDS
    assert world_of(run).at == (0.0, 0.0)
    assert ended.stopped == "no rate takes it further within the floors"
    assert ended.unchanged == "no round held the floors: the weights are those from before the run"


def test_a_round_that_unlearns_is_taken_back(monkeypatch):
    run = teaching(monkeypatch)
    run._sweep()
    run._round()
    before = world_of(run).at
    world_of(run).gain = -0.3
    run._round()
    assert world_of(run).at == before
    assert run.state.refused == 1


def test_a_round_that_diverges_is_taken_back(monkeypatch):
    run = teaching(monkeypatch)
    run._sweep()
    world_of(run).diverges_at = 0.1
    run._round()
    assert world_of(run).at == (0.0, 0.0)
    assert run.state.rate == 0.05


def test_a_loss_that_no_longer_falls_ends_the_run_at_half_rates(monkeypatch):
    run = teaching(monkeypatch)
    run._sweep()
    run._round()
    best, rate = run.state.best, run.state.rate
    world_of(run).gain = 0.0
    for _ in range(learning.PATIENCE):
        assert run.state.stage == "round"
        run._round()
    assert (run.state.stage, run.state.reason) == ("last", "the loss no longer falls")
    assert run.state.best == best
    assert run.state.rate == pytest.approx(rate / 2**learning.PATIENCE)


@pytest.mark.parametrize("spoils", ["loss", "floor", "diverges"])
def test_an_annealing_that_makes_it_worse_is_not_kept(monkeypatch, spoils):
    run = teaching(monkeypatch)
    run._sweep()
    run._round()
    world, best = world_of(run), world_of(run).at
    world.gain, world.harm = (-0.1, 0.0) if spoils == "loss" else (0.01, 50.0 if spoils == "floor" else 0.0)
    world.diverges_at = 0.0 if spoils == "diverges" else math.inf
    run.state.stage = "last"
    run._last()
    assert world.at == best == world.kept[run.state.best]
    assert run.state.stage == "ended"


def test_an_annealing_that_gains_is_kept(monkeypatch):
    run = teaching(monkeypatch, gain=0.1)
    run._sweep()
    run._round()
    before = world_of(run).at
    run._last()
    assert world_of(run).at[0] > before[0]
    assert world_of(run).kept[run.state.best] == world_of(run).at


def test_a_budget_ends_it_as_planned(monkeypatch):
    run = teaching(monkeypatch, gain=0.01, control=Control(budget=2 * LEAST_ROUND, repairs=0))
    ended = run.run()
    assert ended.stopped == f"{2 * LEAST_ROUND} steps as planned"
    assert ended.unchanged is None
