"""Controls of a run: what they reach, what they leave alone, and what is refused."""

from __future__ import annotations

import json

import pytest

import palimpsest as pal
from palimpsest.engine.plan import make_plan
from palimpsest.engine.plan_record import recorded_digest
from palimpsest.errors import PlanError

BRIEF = {
    "training": {"learning_rate": 1e-3, "max_steps": 4, "batch_size": 4},
    "measuring": {"metrics": ["es", "ma"]},
    "gates": [],
}
FIELDS = {"kind": "unlearn", "method": "npo", "model": "m", "files": {"forget": "f", "retain": "r", "general": "g"}}


def unlearned(clinic, output, **sections):
    sets = {name: clinic / f"{name}.jsonl" for name in ("forget", "retain")}
    plan = {**BRIEF, **sections}
    return pal.unlearn(clinic / "model", sets["forget"], retain=sets["retain"], method="npo", output=output, plan=plan)


def test_they_move_the_weights_and_not_what_was_measured_before(clinic, tmp_path):
    plain = unlearned(clinic, tmp_path / "plain")
    none = unlearned(clinic, tmp_path / "none", controls={"forget": {"temperature": 1}})
    hot = unlearned(clinic, tmp_path / "hot", controls={"forget": {"temperature": 3, "lowest": 0.5}})
    assert plain.plan_digest == none.plan_digest != hot.plan_digest
    assert plain.scores["before"] == hot.scores["before"]
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("plain", "none", "hot")]
    assert weights[0] == weights[1] != weights[2]
    record = json.loads((tmp_path / "hot" / "plan.json").read_text())
    assert record["controls"] == {"forget": {"temperature": 3.0, "lowest": 0.5, "cap": None}}
    assert recorded_digest(record) == hot.plan_digest


def test_a_plan_without_any_has_the_digest_of_a_plan_that_never_heard_of_them():
    plan = make_plan(FIELDS, {})
    record = plan.written_down()
    assert record.pop("controls") == {}
    assert recorded_digest(record) == plan.digest()
    assert make_plan(FIELDS, {"controls": {"forget": {"cap": 3}}}).digest() != plan.digest()


@pytest.mark.parametrize(
    ("controls", "message"),
    [
        (
            {"general": {"cap": 1}},
            r"controls\.general: this run draws from no set .*accepted: forget, retain$",
        ),
        ({"replay": {"cap": 1}}, r"controls\.replay: this run draws from no set of that name"),
        ({"forget": {"lowest": 0}}, r"controls\.forget\.lowest = 0"),
        (3, r"section 'controls' is 3; accepted: a mapping"),
    ],
)
def test_what_no_objective_sees_is_refused(controls, message):
    with pytest.raises(PlanError, match=message):
        make_plan(FIELDS, {"controls": controls})


@pytest.mark.parametrize(
    ("method", "options"), [("amnesiac", {}), ("amnesiac", {"repair_epochs": 1}), ("random_edit", {})]
)
def test_an_edit_shows_no_row_to_an_objective(method, options):
    fields = {**FIELDS, "method": method}
    with pytest.raises(PlanError, match=r"controls\.forget: this run looks at no row of that set; accepted: "):
        make_plan(fields, {"controls": {"forget": {"cap": 1}}, "options": options})


def test_the_repair_after_an_edit_can_be_controlled():
    given = {"controls": {"retain": {"cap": 1}}, "options": {"repair_epochs": 1}}
    assert make_plan({**FIELDS, "method": "amnesiac"}, given).controls["retain"].cap == 1
    with pytest.raises(PlanError, match=r"controls\.retain: .*accepted: no controls$"):
        make_plan({**FIELDS, "method": "amnesiac"}, {"controls": {"retain": {"cap": 1}}})
