"""What a sharded run will cost, counted before it starts: the very rows that its steps will draw.

What a step draws is a function of ids, seed and pass, so that steps and positions are counted, not guessed; seconds are
guessed from one step that is timed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from palimpsest.engine.forecast import duration
from palimpsest.engine.sharded.cutting import ShardCourse, SliceLesson
from palimpsest.in_words import so_many
from palimpsest.loop.arranged import Arranged
from palimpsest.loop.sampler import IdStream
from palimpsest.loop.training import Training

SHARD_ROWS = "learn"
"""Name of the set of a slice, whatever set of the run its rows are from."""
Lengths = Mapping[str, Mapping[str, int]]
"""Set -> id -> positions of the row."""


class Effort(NamedTuple):
    """Of one or several slices.

    Attributes:
        steps: of the optimizer.
        positions: that go forward in them.
    """

    steps: int
    positions: int


def order_of(lesson: SliceLesson, seed: int) -> Arranged:
    """The order that a slice's rows are gone over in: without one of them the others keep theirs."""
    return Arranged(by_id=f"sisa/{seed}/{lesson.shard}/{lesson.piece}")


def options_of_lesson(lesson: SliceLesson, training: Training) -> Training:
    """The options of a slice: those of the run, with its own passes."""
    return training.model_copy(update={"num_train_epochs": lesson.epochs})


def effort_of(lesson: SliceLesson, training: Training, lengths: Lengths) -> Effort:
    """What a slice takes.

    Args:
        lesson: the slice.
        training: of the run.
        lengths: of the rows that it draws from.
    """
    own = options_of_lesson(lesson, training)
    steps, order = own.planned_steps(len(lesson.ids)), order_of(lesson, own.seed)
    drawn = list[int]()
    rows = IdStream(SHARD_ROWS, lesson.ids, own.seed, cursor=len(lesson.ids), arranged=order)
    for _ in range(steps):
        rows = rows.restart(rows.ids) if rows.exhausted else rows
        ids, rows = rows.draw(own.batch_size)
        drawn += [lengths[SHARD_ROWS][i] for i in ids]
    for name in lengths.keys() - {SHARD_ROWS}:
        beside = IdStream(name, tuple(lengths[name]), own.seed, arranged=order)
        drawn += [lengths[name][i] for i in beside.draw_around(steps * own.drawn_from(name))[0]]
    return Effort(steps, sum(drawn))


def effort_together(lessons: Iterable[SliceLesson], training: Training, lengths: Lengths) -> Effort:
    """What several slices take."""
    found = [effort_of(lesson, training, lengths) for lesson in lessons]
    return Effort(sum(one.steps for one in found), sum(one.positions for one in found))


def busiest(positions: Sequence[int], processes: int) -> int:
    """Positions of the process that has the most, where each takes the next shard when it is done with one.

    >>> busiest([5, 3, 3, 1], 2)
    6
    """
    spent = [0] * processes
    for one in positions:
        spent[spent.index(min(spent))] += one
    return max(spent)


def lengths_of(sets: Mapping[str, Any]) -> Lengths:
    """Positions of every row of some sets."""
    return {name: {i: len(examples[i].tokens) for i in examples.ids} for name, examples in sets.items()}


def foretelling(courses: Sequence[ShardCourse], effort: Effort, whole: int, seconds: float, processes: int) -> str:
    """One line: what will be learned, and what that costs.

    Args:
        courses: of the shards.
        effort: of all their slices.
        whole: positions that all shards take from their first slices.
        seconds: guessed.
        processes: at the same time.
    """
    slices = sum(len(course.lessons) for course in courses)
    share = f" ({effort.positions / whole:.0%} of learning all shards anew)" if whole > effort.positions else ""
    at_once = f" in {processes} processes" if processes > 1 else ""
    return (
        f"{so_many(slices, 'slice')} of {so_many(len(courses), 'shard')}{at_once}: {so_many(effort.steps, 'step')}, "
        f"{effort.positions:,} positions{share}, about {duration(seconds)}"
    )
