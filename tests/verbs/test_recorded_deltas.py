"""A learn run keeps its steps when asked; amnesiac unlearning takes back those of a row; the child's log is right."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.verbs.conftest import clinic, write_rows

import palimpsest as pal
from palimpsest import companions
from palimpsest.companions.companion import Companion
from palimpsest.companions.delta_log import DeltaLog
from palimpsest.companions.marks import own_key
from palimpsest.errors import DataError, ModelError, PlanError
from palimpsest.models.deciding import file_digest
from palimpsest.verbs.verify import verify

__all__ = ["clinic"]

STEPS = {"training": {"batch_size": 2, "learning_rate": 5e-3, "max_steps": 12}, "measuring": {"metrics": ["nll"]}}
ALL = {"rules": [{"kind": "deltas", "keep": 1.0}]}


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def log_of(folder: Path) -> DeltaLog:
    key = own_key()
    assert key is not None
    return DeltaLog.open(companions.companion_place("deltas", folder), key)


def every(folder: Path) -> list[Companion]:
    key = own_key()
    assert key is not None
    return [*companions.opened(folder, key)]


def ids_in(file: Path) -> list[str]:
    return [json.loads(line)["id"] for line in file.read_text().splitlines()]


@pytest.fixture(scope="module")
def learned(clinic, tmp_path_factory) -> Path:
    """A run that kept all of every step, and its forget set in a file."""
    folder = tmp_path_factory.mktemp("learned") / "v1"
    pal.learn(clinic / "model", clinic / "learn.jsonl", output=folder, plan={**STEPS, **ALL}, answers=False)
    return folder


def test_all_changes_taken_back_give_the_start_back(clinic, learned):
    totals = log_of(learned).total_of(ids_in(clinic / "learn.jsonl"))
    start, end = weights(clinic / "model"), weights(learned)
    assert max(float((end[n] - start[n]).abs().max()) for n in totals) > 1e-3
    assert max(float((end[n] - totals[n] - start[n]).abs().max()) for n in totals) < 1e-6


def test_every_step_is_there_under_its_own_rows(clinic, learned):
    log = log_of(learned)
    assert len(log.index.records) == 12
    assert {len(stamp.who) for stamp in log.stamps.values()} == {2}
    assert log.held().examples == 12
    assert verify(learned).holds


def test_amnesiac_subtracts_the_steps_of_the_rows_and_the_rest_stays_right(clinic, learned, tmp_path):
    gone = ids_in(clinic / "forget.jsonl")
    wanted = log_of(learned).total_of(gone)
    result = pal.unlearn(
        learned,
        clinic / "forget.jsonl",
        method="amnesiac",
        output=tmp_path / "v2",
        plan={"measuring": {"metrics": ["nll"]}},
        answers=False,
    )
    assert "companion/deltas" in result.plan["digests"]
    before, after = weights(learned), weights(tmp_path / "v2")
    assert max(float((before[n] - wanted[n] - after[n]).abs().max()) for n in wanted) < 1e-6
    log = log_of(tmp_path / "v2")
    rest = [i for i in ids_in(clinic / "learn.jsonl") if i not in gone]
    assert [c.kind for c in every(tmp_path / "v2") if c.holds(gone)] == []
    assert set(log.index.records) == {n for n, s in log_of(learned).stamps.items() if not s.who & _marks(gone)}
    # the child's log is that of the child: all the rest taken back gives the start of the first run
    totals, start = log.total_of(rest), weights(clinic / "model")
    assert max(float((after[n] - totals[n] - start[n]).abs().max()) for n in totals) < 1e-6


def _marks(ids: list[str]) -> set[str]:
    key = own_key()
    assert key is not None
    return {key.of_id(i) for i in ids}


def test_two_requests_are_as_good_as_one(clinic, learned, tmp_path):
    rows = [json.loads(line) for line in (clinic / "learn.jsonl").read_text().splitlines()]
    for name, part in (("both", rows[:2]), ("one", rows[:1]), ("two", rows[1:2])):
        write_rows(tmp_path / f"{name}.jsonl", part)
    how = {"method": "amnesiac", "plan": {"measuring": {"metrics": ["nll"]}}, "answers": False}
    pal.unlearn(learned, tmp_path / "both.jsonl", output=tmp_path / "at_once", **how)
    pal.unlearn(learned, tmp_path / "one.jsonl", output=tmp_path / "first", **how)
    pal.unlearn(tmp_path / "first", tmp_path / "two.jsonl", output=tmp_path / "second", **how)
    one, two = weights(tmp_path / "at_once"), weights(tmp_path / "second")
    assert max(float((one[n] - two[n]).abs().max()) for n in one) < 1e-6
    assert log_of(tmp_path / "at_once").digest() == log_of(tmp_path / "second").digest()


def test_a_repair_is_recorded_too(clinic, learned, tmp_path):
    """The start, the steps that were left and those of the repair: the sum of all is what the child weighs."""
    result = pal.unlearn(
        learned,
        clinic / "forget.jsonl",
        retain=clinic / "retain.jsonl",
        method="amnesiac",
        output=tmp_path / "v2",
        plan={**ALL, "options": {"repair_epochs": 1}, "training": {"batch_size": 4}, "measuring": {"metrics": ["nll"]}},
        answers=False,
    )
    assert result.ending.steps == 2
    gone, log = ids_in(clinic / "forget.jsonl"), log_of(tmp_path / "v2")
    assert not log.holds(gone)
    assert len(log.index.records) == 2 + sum(not s.who & _marks(gone) for s in log_of(learned).stamps.values())
    totals = log.total_of(ids_in(clinic / "learn.jsonl"))
    start, after = weights(clinic / "model"), weights(tmp_path / "v2")
    assert max(float((after[n] - totals[n] - start[n]).abs().max()) for n in totals) < 1e-6


def test_a_later_run_goes_on_recording_or_leaves_the_log_behind(clinic, learned, tmp_path):
    more = write_rows(tmp_path / "more.jsonl", [{"id": "m1", "text": "The new guest is Quin."}])
    plan = {**STEPS, "training": {**STEPS["training"], "max_steps": 2}}
    pal.learn(learned, more, output=tmp_path / "kept", plan={**plan, "record": ["deltas"]}, answers=False)
    log = log_of(tmp_path / "kept")
    assert len(log.index.records) == 14
    assert log.holds(["m1", "p0"]) == {"m1", "p0"}
    log.check_whole(log.index.model, "kept")
    said: list[str] = []
    how = {"answers": False, "progress": lambda stage, *_: said.append(stage)}
    silent = pal.learn(learned, more, output=tmp_path / "silent", plan=plan, **how)
    (note,) = (line for line in said if "are not handed on" in line)
    assert note.endswith("to go on with them: --record deltas")
    assert said.index(note) < next(i for i, stage in enumerate(said) if stage.startswith("measuring before"))
    assert companions.kinds_in(tmp_path / "silent") == ("learned",)
    assert any("were not handed on: 2 steps of finetune moved" in note for note in silent.notes)


def test_another_method_that_records_drops_what_it_forgot(clinic, learned, tmp_path):
    result = pal.unlearn(
        learned,
        clinic / "forget.jsonl",
        retain=clinic / "retain.jsonl",
        method="grad_diff",
        output=tmp_path / "v2",
        plan={**STEPS, "record": "deltas", "training": {**STEPS["training"], "max_steps": 3}},
        answers=False,
    )
    gone = ids_in(clinic / "forget.jsonl")
    assert [c.kind for c in every(tmp_path / "v2") if c.holds(gone)] == []
    assert any("shared these steps" in note for note in result.notes)
    with pytest.raises(DataError, match="has a gap: of"):
        pal.unlearn(tmp_path / "v2", clinic / "retain.jsonl", method="amnesiac", output=tmp_path / "v3")
    assert not (tmp_path / "v3").exists()


def test_a_controlled_run_records_what_it_did_not_take_back(clinic, tmp_path):
    """Whatever rounds were taken back: all records of the log lead from the start to the end."""
    plan = {"measuring": {"metrics": ["nll"]}, "control": {"epochs": 3}, **ALL}
    pal.learn(clinic / "model", clinic / "learn.jsonl", output=tmp_path / "v1", plan=plan, answers=False)
    totals = log_of(tmp_path / "v1").total_of(ids_in(clinic / "learn.jsonl"))
    start, end = weights(clinic / "model"), weights(tmp_path / "v1")
    assert max(float((end[n] - start[n]).abs().max()) for n in totals) > 1e-4
    assert max(float((end[n] - totals[n] - start[n]).abs().max()) for n in totals) < 1e-5


def test_nothing_is_recorded_unless_asked(clinic, tmp_path):
    plan = {**STEPS, "training": {**STEPS["training"], "max_steps": 1}}
    pal.learn(clinic / "model", clinic / "learn.jsonl", output=tmp_path / "v1", plan=plan, answers=False)
    assert companions.kinds_in(tmp_path / "v1") == ("learned",)
    pal.learn(clinic / "model", clinic / "learn.jsonl", output=tmp_path / "v2", plan={**plan, "record": "deltas"})
    assert file_digest(tmp_path / "v1" / "model.safetensors") == file_digest(tmp_path / "v2" / "model.safetensors")


def test_what_cannot_be_is_one_line(clinic, learned, tmp_path):
    out = {"output": tmp_path / "out"}
    with pytest.raises(
        PlanError, match="recorded when it learned, and there are no deltas beside it; learn with --rec"
    ):
        pal.unlearn(clinic / "model", clinic / "forget.jsonl", method="amnesiac", **out)
    with pytest.raises(PlanError, match="unknown history to record 'delta'; did you mean 'deltas'"):
        pal.learn(clinic / "model", clinic / "learn.jsonl", plan={"record": ["delta"]}, **out)
    with pytest.raises(PlanError, match="record deltas beside scope.kind = lora"):
        pal.learn(clinic / "model", clinic / "learn.jsonl", plan={**ALL, "scope": {"kind": "lora"}}, **out)
    with pytest.raises(DataError, match="in no step of the delta log|never learned"):
        pal.unlearn(learned, clinic / "holdout.jsonl", method="amnesiac", **out)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("option", [{"learning_rate": 1e-3}, {"max_steps": 3}, {"num_train_epochs": 2}])
def test_to_be_told_of_steps_where_there_are_none_is_refused(clinic, learned, tmp_path, option):
    plan = {"training": option, "measuring": {"metrics": ["nll"]}}
    with pytest.raises(PlanError, match=f"training.{next(iter(option))}: method 'amnesiac' edits the weights at once"):
        pal.unlearn(learned, clinic / "forget.jsonl", method="amnesiac", output=tmp_path / "out", plan=plan)
    assert not [*tmp_path.iterdir()]


def test_a_log_with_a_gap_is_refused_before_anything_is_written(clinic, learned, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(learned, broken)
    (broken / "companion" / "deltas" / "00000002.safetensors").unlink()
    with pytest.raises(ModelError, match=r"has a gap: 00000002\.safetensors is missing"):
        pal.unlearn(broken, clinic / "forget.jsonl", method="amnesiac", output=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_packed_by_subject_a_step_is_of_one_owner(clinic, tmp_path):
    """Two rows each of six people: every recorded step has both rows of one, and an epoch is six steps."""
    rows = [json.loads(line) for line in (clinic / "learn.jsonl").read_text().splitlines()]
    owned = [{**row, "subject": f"person {n // 2}"} for n, row in enumerate(rows)]
    data = write_rows(tmp_path / "owned.jsonl", owned)
    training = {"batch_size": 8, "learning_rate": 1e-3, "num_train_epochs": 2, "pack_by": "subject"}
    plan = {"training": training, "measuring": {"metrics": ["nll"]}, "record": ["deltas"]}
    result = pal.learn(clinic / "model", data, output=tmp_path / "v1", plan=plan, answers=False)
    assert result.ending.steps == 12
    pairs = {frozenset(_marks([row["id"] for row in owned if row["subject"] == f"person {n}"])) for n in range(6)}
    log = log_of(tmp_path / "v1")
    assert {stamp.who for stamp in log.stamps.values()} == pairs
    assert len(log.stamps) == 12
    plain = write_rows(tmp_path / "plain.jsonl", [{"id": row["id"], "text": row["completion"]} for row in rows])
    with pytest.raises(PlanError, match="no row of the learn set has a subject"):
        pal.learn(clinic / "model", plain, output=tmp_path / "v2", plan=plan, answers=False)
    assert not list(tmp_path.glob("v2*"))
