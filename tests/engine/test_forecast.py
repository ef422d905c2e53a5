"""What a run of stages will do, by hand: 6 rows of 3 tokens to go over once, 10 of 5 to go over twice, in fours."""

from __future__ import annotations

import pytest

from palimpsest.contract import Phase, Stage
from palimpsest.data.encode.batch import TextSet, TokenSequence
from palimpsest.engine.forecast import leg_positions, staged_steps, work_of
from palimpsest.engine.plan import make_plan
from palimpsest.loop.legs import Leg
from palimpsest.loop.training import Training


def rows(prefix: str, count: int, length: int) -> TextSet:
    scored = (False,) + (True,) * (length - 1)
    return TextSet([TokenSequence(f"{prefix}{n}", (5,) * length, scored) for n in range(count)], pad_id=0)


SETS = {"forget": rows("f", 6, 3), "retain": rows("r", 10, 5)}
TRAINING = Training(batch_size=4)
AWAY = Leg(
    Stage("away", phases=(Phase("away", ("forget",)),)),
    "forget",
    TRAINING.model_copy(update={"num_train_epochs": 1}),
)
BACK = Leg(
    Stage("back", phases=(Phase("back", ("retain",)),)),
    "retain",
    TRAINING.model_copy(update={"num_train_epochs": 2}),
)


@pytest.mark.parametrize(("most", "expected"), [(None, [2, 6, 2]), (9, [2, 6, 1]), (5, [2, 3, 0])])
def test_steps_of_stages(most, expected):
    assert staged_steps([AWAY, BACK, AWAY], SETS, most) == expected


def test_positions_are_those_of_the_sets_that_a_stage_draws():
    assert (leg_positions(AWAY, SETS), leg_positions(BACK, SETS)) == (12, 20)
    both = Leg(Stage("both"), "forget", TRAINING)
    assert leg_positions(both, SETS) == 32


@pytest.mark.parametrize(
    ("kind", "steps", "positions", "stages"),
    [
        ("none", 10, 2 * 12 + 6 * 20 + 2 * 12, " in 3 stages one after the other (away ×2, back)"),
        ("auto", 240, 240 * 16, " in 2 stages taking turns (away, back)"),
    ],
)
def test_work_of_a_run(kind, steps, positions, stages):
    sections = {"control": {"kind": kind}, "training": {"batch_size": 4}}
    plan = make_plan({"kind": "unlearn", "model": "model", "method": "scrub", "files": {}}, sections)
    turns = [AWAY, BACK, AWAY] if kind == "none" else [AWAY, BACK]
    work = work_of(plan, SETS, {}, turns)
    assert (work.steps, work.positions, work.stages) == (steps, positions, stages)
