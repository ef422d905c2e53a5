"""What a plan lacks is refused before anything is read or measured; what will hardly work is said."""

from __future__ import annotations

from typing import Any

import pytest

import palimpsest as pal
from palimpsest.engine.inputs import check_needs, unwatched
from palimpsest.engine.plan import Plan, make_plan
from palimpsest.errors import PlanError

FORGET, LEARN = {"forget": "f.jsonl", "retain": "r.jsonl"}, {"learn": "l.jsonl"}


def plan_of(kind: str, method: str, files: dict[str, str], control: dict[str, Any], **fields: Any) -> Plan:
    given = {"kind": kind, "method": method, "model": "m", "files": files, **fields}
    return make_plan(given, {"control": control} if control else {})


def test_a_level_from_an_oracle_needs_one():
    plan = plan_of("unlearn", "npo", FORGET, {"level": "oracle"})
    with pytest.raises(PlanError, match=r"^control.level = oracle, and no oracle was given; give --oracle DIR"):
        check_needs(plan)
    check_needs(plan, makes_oracle=True)
    check_needs(plan.model_copy(update={"oracle": "o"}))
    check_needs(plan_of("unlearn", "npo", FORGET, {"level": "shadow"}))


@pytest.mark.parametrize("level", ["oracle", "shadow"])
def test_what_aims_at_no_level_takes_none(level):
    with pytest.raises(PlanError, match=f"control.level = {level}: a run that only learns aims at no level"):
        check_needs(plan_of("learn", "finetune", LEARN, {"level": level}))
    with pytest.raises(PlanError, match=f"control.level = {level}: a run at a fixed rate aims at no level"):
        check_needs(plan_of("unlearn", "npo", FORGET, {"level": level, "kind": "none"}))


def test_it_is_refused_before_anything_is_measured(clinic, tmp_path):
    told = []
    with pytest.raises(PlanError, match="control.level = oracle"):
        pal.unlearn(
            clinic / "model",
            clinic / "forget.jsonl",
            retain=clinic / "retain.jsonl",
            method="npo",
            output=tmp_path / "out",
            plan={"control": {"level": "oracle"}},
            progress=lambda *words: told.append(words),
        )
    assert told == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("kind", "method", "more", "control", "noted"),
    [
        ("update", "ug_clu", {}, {}, True),
        ("update", "ug_clu", {"retain": "r"}, {}, False),
        ("update", "ug_clu", {"replay": "r"}, {}, False),
        ("update", "ug_clu", {}, {"kind": "none"}, False),
        ("unlearn", "ug_clu", {}, {}, False),
    ],
)
def test_an_update_that_can_rehearse_nothing_is_told_so(kind, method, more, control, noted):
    files = {"forget": "f", **more} | ({"learn": "l"} if kind == "update" else {})
    plan = plan_of(kind, method, files, control)
    assert (unwatched(plan) is not None) is noted
    if noted:
        assert "nothing tells what a model scores that never saw" in str(unwatched(plan))
        assert "nothing tells" not in str(unwatched(plan.model_copy(update={"oracle": "o"})))


def test_the_note_comes_before_training_and_stays_with_the_result(clinic, tmp_path):
    told = []
    rows = (clinic / "holdout.jsonl").read_text()
    (tmp_path / "new.jsonl").write_text(rows)
    result = pal.update(
        clinic / "model",
        learn=tmp_path / "new.jsonl",
        forget=clinic / "forget.jsonl",
        output=tmp_path / "out",
        plan={
            "control": {"budget": 4, "cooling": 1},
            "measuring": {"metrics": ["prob"]},
            "training": {"batch_size": 4},
        },
        progress=lambda stage, *_: told.append(stage),
    )
    assert told[0].startswith("note: an update without --retain and --replay rehearses nothing")
    assert any(note.startswith("An update without --retain and --replay") for note in result.notes)
