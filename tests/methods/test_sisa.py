"""SISA: what a shard learns, by hand; where a row is learned, and that nothing else moves it; what is refused."""

from __future__ import annotations

import math
from collections import Counter

import pytest

from palimpsest.contract import Phase
from palimpsest.engine.sharded.cutting import (
    cut_by_id,
    lessons_of,
    passes_of_a_slice,
    shard_and_slice,
)
from palimpsest.engine.sharded.foretold import SHARD_ROWS, busiest, effort_of, order_of
from palimpsest.engine.sharded.recipe import Recipe
from palimpsest.errors import PlanError
from palimpsest.loop.sampler import IdStream
from palimpsest.loop.training import Training
from palimpsest.methods import configure
from palimpsest.methods.sisa import SISA

IDS = [f"row {n}" for n in range(400)]


def recipe(shards: int = 4, slices: int = 3, epochs: float = 6.0) -> Recipe:
    return Recipe({"shards": shards, "slices": slices}, {"seed": 0, "num_train_epochs": epochs}, {})


def test_rows_and_replay_are_means_of_their_own(skewed, two_rows):
    """Row a: 0 0 after 0, row b: 1; p(0) = 0.8, p(1) = 0.2."""
    method = SISA(configure("sisa", {}))
    terms = method.loss(skewed, {"learn": two_rows, "replay": two_rows}, Phase("joint", ("learn", "replay")))
    assert terms.keys() == {"learn", "replay"}
    for name, term in terms.items():
        assert (term.of, term.weight, term.per) == (name, 1.0, "token")
        assert term.total.item() == pytest.approx(-2 * math.log(0.8) - math.log(0.2))


def test_every_row_has_one_place_whatever_else_there_is():
    cut = cut_by_id(IDS, recipe())
    assert sorted(i for shard in cut for piece in shard for i in piece) == sorted(IDS)
    fewer = cut_by_id([i for i in IDS if i != "row 7"], recipe())
    assert [[[i for i in piece if i != "row 7"] for piece in shard] for shard in cut] == fewer
    sizes = Counter(shard_and_slice(i, 0, 4, 3) for i in IDS)
    assert len(sizes) == 12
    assert max(abs(count - 400 / 12) for count in sizes.values()) < 4 * math.sqrt(400 / 12)


def test_slices_add_up_to_the_passes_that_were_asked_for():
    for slices in (1, 2, 3, 7):
        together = sum(j / slices * passes_of_a_slice(10.0, slices) for j in range(1, slices + 1))
        assert together == pytest.approx(10.0)


def test_a_slice_goes_over_itself_and_those_before_it():
    lessons = lessons_of(2, [["a"], [], ["b", "c"]], recipe())
    assert [(one.piece, one.ids) for one in lessons] == [(0, ("a",)), (1, ("a",)), (2, ("a", "b", "c"))]
    assert [one.piece for one in lessons_of(2, [[], ["a"], ["b"]], recipe())] == [1, 2]
    assert lessons_of(2, [[], [], []], recipe()) == ()


def test_a_row_that_goes_leaves_the_others_in_their_order():
    (lesson,) = lessons_of(0, [IDS[:30]], recipe(slices=1))
    arranged = order_of(lesson, 0)
    for cycle in range(3):
        orders = []
        for ids in (lesson.ids, lesson.ids[:11] + lesson.ids[12:]):
            stream = IdStream("learn", ids, 0, cycle=cycle, arranged=arranged)
            orders.append([i for i in stream.draw(99)[0] if i != lesson.ids[11]])
        assert orders[0] == orders[1]
        assert orders[0] != sorted(orders[0])


def test_the_effort_is_that_of_a_plain_loop_over_batches():
    """Brute force: whole passes of ragged rows, the last one cut off by the number of steps."""
    (lesson,) = lessons_of(0, [IDS[:7]], recipe(slices=1, epochs=2.5))
    training, lengths = Training(batch_size=3), {i: 2 + n for n, i in enumerate(IDS[:7])}
    steps, positions, cycle = 0, 0, 0
    while steps < math.ceil(2.5 * 3):
        cycle += 1
        order = IdStream("learn", lesson.ids, 0, cycle=cycle, arranged=order_of(lesson, 0)).draw(7)[0]
        for first in range(0, 7, 3):
            if steps < math.ceil(2.5 * 3):
                positions += sum(lengths[i] for i in order[first : first + 3])
                steps += 1
    assert effort_of(lesson, training, {SHARD_ROWS: lengths}) == (steps, positions)
    beside = effort_of(lesson, training, {SHARD_ROWS: lengths, "replay": {"g": 10}})
    assert beside == (steps, positions + steps * 3 * 10)


def test_the_busiest_process():
    assert busiest([5, 3, 3, 1], 1) == 12
    assert busiest([5, 3, 3, 1], 4) == 5


@pytest.mark.parametrize("option", ["shards", "slices", "rank", "processes"])
def test_none_of_them_is_refused(option):
    with pytest.raises(PlanError, match=rf"sisa\.{option} = 0.*greater than or equal to 1"):
        configure("sisa", {option: 0})
