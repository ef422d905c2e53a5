"""What a run will cost, said before it starts: steps, positions, and seconds from one step that is timed."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import torch

from palimpsest.control.settings import budget_of
from palimpsest.data.encode.batch import ExampleSet
from palimpsest.engine.plan import Plan
from palimpsest.in_words import so_many
from palimpsest.models.load import device
from palimpsest.models.modes import in_eval_mode


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


def most_steps(plan: Plan, sets: Mapping[str, Any]) -> int:
    """Steps that are planned, or the most that a controlled run may take."""
    training, sizes = plan.training, [len(examples) for examples in sets.values()]
    if plan.control.kind == "auto":
        return budget_of(plan.control, training, max(sizes))
    return training.planned_steps(sizes[0])


def forecast(plan: Plan, model: Any, sets: Mapping[str, Any], steps: int) -> str:
    """One line: method, rate, rows, steps and time.

    Args:
        plan: resolved.
        model: with parameters that may move.
        sets: that the method draws from, the anchor first.
        steps: planned, or the most that a controlled run may take.
    """
    seconds = seconds_per_position(model, next(iter(sets.values())), plan.training.batch_size)
    searched = plan.control.kind == "auto"
    rate = "rate searched" if searched else f"rate {plan.training.learning_rate:g}"
    rows = ", ".join(f"{len(examples)} {name}" for name, examples in sets.items())
    most, alone = ("at most ", "these; readings come on top") if searched else ("", "these alone")
    about = duration(seconds * step_positions(plan, sets) * steps)
    return f"{plan.method}, {rate}; rows: {rows}; {most}{so_many(steps, 'step')}, about {about} for {alone}"


def duration(seconds: float) -> str:
    """In the unit that suits it.

    >>> duration(34.2), duration(600), duration(9000)
    ('34 s', '10 min', '2.5 h')
    """
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
