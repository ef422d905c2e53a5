"""Which slices are to be learned, on which rows, and from where: the whole plan of a sharded run, without torch.

Shard and slice of a row are a draw by its id and the seed: the same whatever other rows there are, so that a row that
goes moves no other one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from palimpsest.companions.shards import Shards, first_slices
from palimpsest.data.draws import below, random_words
from palimpsest.engine.sharded.recipe import Recipe


class SliceLesson(NamedTuple):
    """One slice of a shard, to be learned with those before it.

    Attributes:
        shard: its number, from 0.
        piece: number of the slice, from 0.
        ids: rows of this slice and all before it.
        epochs: passes over them.
    """

    shard: int
    piece: int
    ids: tuple[str, ...]
    epochs: float


class ShardCourse(NamedTuple):
    """What a shard has to learn.

    Attributes:
        shard: its number.
        start: file of the adapters that it goes on from; None = new ones.
        lessons: in their order; none where no row is left.
        whole: positions that the shard would take from its first slice are those of these lessons.
    """

    shard: int
    start: Path | None
    lessons: tuple[SliceLesson, ...]
    whole: tuple[SliceLesson, ...]

    @property
    def reached(self) -> int:
        """Slices that stay as they are: those before the checkpoint that it goes on from, and that one."""
        return 0 if self.start is None else self.whole[-1].piece + 1 - len(self.lessons)


def shard_and_slice(example_id: str, seed: int, shards: int, slices: int) -> tuple[int, int]:
    """Where a row is learned: a draw by its id and the seed alone.

    >>> shard_and_slice("Ada", 0, 4, 3), shard_and_slice("Ada", 1, 4, 3)
    ((0, 0), (3, 1))
    """
    shard, piece = random_words(seed, f"sisa/{example_id}", 0, 2)
    return below(shards, shard), below(slices, piece)


def cut_by_id(ids: Iterable[str], recipe: Recipe) -> list[list[list[str]]]:
    """Shard -> slice -> its rows, in the order of their ids."""
    found: list[list[list[str]]] = [[[] for _ in range(recipe.slices)] for _ in range(recipe.shards)]
    for example_id in sorted(ids):
        shard, piece = shard_and_slice(example_id, recipe.seed, recipe.shards, recipe.slices)
        found[shard][piece].append(example_id)
    return found


def passes_of_a_slice(epochs: float, slices: int) -> float:
    """Passes over slices 1 to j, for each j, that together cost what so many passes over all rows do.

    Bourtoule et al. 2021, section V-A: Σ_j (j / R) · 2 E / (R + 1) = E.

    >>> sum(j / 3 * passes_of_a_slice(10.0, 3) for j in (1, 2, 3))
    10.0
    """
    return 2 * epochs / (slices + 1)


def lessons_of(
    shard: int, slices: Sequence[Collection[str]], recipe: Recipe, first: int = 0
) -> tuple[SliceLesson, ...]:
    """The slices of a shard from ``first`` on that have a row by then."""
    found, so_far = [], list[str]()
    for piece, ids in enumerate(slices):
        so_far += ids
        if piece >= first and so_far:
            found.append(SliceLesson(shard, piece, tuple(so_far), passes_of_a_slice(recipe.epochs, recipe.slices)))
    return tuple(found)


def courses_to_learn(ids: Iterable[str], recipe: Recipe) -> list[ShardCourse]:
    """Of every shard that a row falls into."""
    cut = enumerate(cut_by_id(ids, recipe))
    return [ShardCourse(s, None, whole, whole) for s, slices in cut if (whole := lessons_of(s, slices, recipe))]


def courses_to_unlearn(
    kept: Mapping[str, tuple[int, int]], gone: Collection[tuple[int, int]], recipe: Recipe, shards: Shards | None
) -> list[ShardCourse]:
    """Of every shard that loses a row: the slices from that row's on, from the checkpoint before it.

    Args:
        kept: id -> shard and slice, of the rows that stay.
        gone: shards and slices of those that go.
        recipe: by which they were learned.
        shards: the checkpoints; None goes back to the first slice.

    Raises:
        ModelError: a checkpoint that is needed is missing or damaged.
    """
    left: dict[int, list[list[str]]] = {shard: [[] for _ in range(recipe.slices)] for shard in first_slices(gone)}
    for example_id, (shard, piece) in sorted(kept.items()):
        if shard in left:
            left[shard][piece].append(example_id)
    hit = sorted(first_slices(gone).items())
    return [_from_checkpoint(shard, left[shard], first, recipe, shards) for shard, first in hit]


def _from_checkpoint(
    shard: int, slices: Sequence[Collection[str]], first: int, recipe: Recipe, shards: Shards | None
) -> ShardCourse:
    """A shard that goes on from before the first slice that lost a row; from new adapters where none is before it."""
    whole = lessons_of(shard, slices, recipe)
    if shards is None or not any(slices[:first]):
        return ShardCourse(shard, None, whole, whole)
    lessons = tuple(one for one in whole if one.piece >= first)
    return ShardCourse(shard, shards.checkpoint(shard, first - 1), lessons, whole)
