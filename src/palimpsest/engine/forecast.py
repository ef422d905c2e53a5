"""What a run will cost, said before it starts: steps, positions, and seconds from one step that is timed."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from palimpsest.control.settings import budget_of
from palimpsest.data.encode.batch import ExampleSet
from palimpsest.engine.plan import Plan
from palimpsest.in_words import so_many
from palimpsest.loop.legs import Leg, in_turn, named_stages
from palimpsest.models.load import device
from palimpsest.models.modes import in_eval_mode


@dataclass(frozen=True)
class Work:
    """What a run will do.

    Attributes:
        steps: iterations, and repair steps of a controlled run.
        positions: that go forward in them, about.
        stages: in words, where there are several.
    """

    steps: int
    positions: float
    stages: str


def mean_length(examples: Any) -> float:
    """Positions of an example: tokens, or one for an image."""
    lengths = [len(examples[i].tokens) for i in examples.ids] if hasattr(examples, "__getitem__") else [1]
    return sum(lengths) / len(lengths)


def rows_of_step(plan: Plan, sets: Mapping[str, ExampleSet]) -> dict[str, int]:
    """Examples that one iteration draws from each set; the first is the anchor."""
    training, anchor = plan.training, next(iter(sets))
    wanted = {name: training.batch_size if name == anchor else training.drawn_from(name) for name in sets}
    return {name: min(count, len(sets[name])) for name, count in wanted.items()}


def step_positions(plan: Plan, sets: Mapping[str, Any]) -> float:
    """Positions that one iteration sends forward, about."""
    return sum(rows * mean_length(sets[name]) for name, rows in rows_of_step(plan, sets).items())


def seconds_per_position(model: Any, examples: Any, rows: int) -> float:
    """One forward and backward pass, timed the second time it is done; the gradients are dropped.

    Args:
        model: on its device; its weights, buffers and modes are as before afterwards.
        examples: any set.
        rows: of the batch.
    """
    chosen = examples.ids[: max(1, min(rows, len(examples)))]
    batch = examples.plain().batch(chosen).to(device())
    started = time.perf_counter()
    with in_eval_mode(model), torch.random.fork_rng():
        for _ in range(2):
            started = time.perf_counter()
            batch.predict(model).logp_S.mean().backward()
            model.zero_grad(set_to_none=True)
    return (time.perf_counter() - started) / (len(chosen) * mean_length(examples.subset(chosen)))


def staged_steps(legs: Sequence[Leg], sets: Mapping[str, Any], most: int | None) -> list[int]:
    """Steps of each stage at fixed rates.

    Args:
        legs: of a run, in order.
        sets: that the method draws from.
        most: of all of them together; None = any.
    """
    found, left = [], math.inf if most is None else most
    for leg in legs:
        steps = int(min(left, leg.training.planned_steps(len(sets[leg.anchor]))))
        left -= steps
        found.append(steps)
    return found


def leg_positions(leg: Leg, sets: Mapping[str, Any]) -> float:
    """Positions that one iteration of a stage sends forward, about."""
    phases = leg.stage.phases
    drawn = sets if phases is None else {name for phase in phases for name in phase.sets}
    wanted = {n: leg.training.batch_size if n == leg.anchor else leg.training.drawn_from(n) for n in drawn}
    return sum(min(count, len(sets[name])) * mean_length(sets[name]) for name, count in wanted.items())


def work_of(plan: Plan, sets: Mapping[str, Any], stays: Mapping[str, Any], legs: Sequence[Leg]) -> Work:
    """Steps and positions of a run, or the most that a controlled one may take.

    Args:
        plan: resolved.
        sets: that the method draws from, the anchor first.
        stays: sets of the repair of a controlled run.
        legs: the stages that the method names; () where it has none of its own.
    """
    if not legs:
        steps = most_steps(plan, {**stays, **sets})
        return Work(steps, step_positions(plan, sets) * steps, "")
    if plan.control.kind == "auto":
        steps = most_steps(plan, {**stays, **sets})
        turns = in_turn(legs)
        positions = steps * sum(leg_positions(leg, sets) for leg in turns) / len(turns)
        return Work(steps, positions, _in_words(turns, "taking turns"))
    each = staged_steps(legs, sets, plan.training.max_steps)
    positions = sum(steps * leg_positions(leg, sets) for steps, leg in zip(each, legs, strict=True))
    return Work(sum(each), positions, _in_words(legs, "one after the other"))


def _in_words(legs: Sequence[Leg], how: str) -> str:
    if len(legs) < 2:
        return ""
    return f" in {so_many(len(legs), 'stage')} {how} ({named_stages(leg.stage for leg in legs)})"


def most_steps(plan: Plan, sets: Mapping[str, Any]) -> int:
    """Steps that are planned, or the most that a controlled run may take."""
    training, sizes = plan.training, [len(examples) for examples in sets.values()]
    if plan.control.kind == "auto":
        return budget_of(plan.control, training, max(sizes))
    return training.planned_steps(sizes[0])


def forecast(plan: Plan, model: Any, sets: Mapping[str, Any], work: Work) -> str:
    """One line: method, rate, rows, steps and time.

    Args:
        plan: resolved.
        model: with parameters that may move.
        sets: that the method draws from, the anchor first.
        work: planned, or the most of a controlled run.
    """
    seconds = seconds_per_position(model, next(iter(sets.values())), plan.training.batch_size)
    searched = plan.control.kind == "auto"
    rate = "rate searched" if searched else f"rate {plan.training.learning_rate:g}"
    rows = ", ".join(f"{len(examples)} {name}" for name, examples in sets.items())
    most, alone = ("at most ", "these; readings come on top") if searched else ("", "these alone")
    steps, about = f"{so_many(work.steps, 'step')}{work.stages}", duration(seconds * work.positions)
    return f"{plan.method}, {rate}; rows: {rows}; {most}{steps}, about {about} for {alone}"


def duration(seconds: float) -> str:
    """In the unit that suits it.

    >>> duration(34.2), duration(600), duration(9000)
    ('34 s', '10 min', '2.5 h')
    """
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
