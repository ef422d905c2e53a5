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


def training_of(lesson: SliceLesson, training: Training) -> Training:
    """The options of a slice: those of the run, with its own passes."""
    return training.model_copy(update={"num_train_epochs": lesson.epochs})


def effort_of(lesson: SliceLesson, training: Training, lengths: Mapping[str, int]) -> Effort:
    """What a slice takes.

    Args:
        lesson: the slice.
        training: of the run.
        lengths: id -> positions of the row.
    """
    own = training_of(lesson, training)
    steps, positions = own.planned_steps(len(lesson.ids)), 0
    stream = IdStream("learn", lesson.ids, own.seed, cursor=len(lesson.ids), arranged=order_of(lesson, own.seed))
    for _ in range(steps):
        stream = stream.restart(stream.ids) if stream.exhausted else stream
        drawn, stream = stream.draw(own.batch_size)
        positions += sum(lengths[i] for i in drawn)
    return Effort(steps, positions)


def effort_together(lessons: Iterable[SliceLesson], training: Training, lengths: Mapping[str, int]) -> Effort:
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


def lengths_of(examples: Any) -> dict[str, int]:
    """Id -> positions of a row."""
    return {i: len(examples[i].tokens) for i in examples.ids}


def said_before(courses: Sequence[ShardCourse], effort: Effort, whole: int, seconds: float, processes: int) -> str:
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
