"""A verdict is computed from what a run recorded: today, or with other gates years later."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import palimpsest as pal
from palimpsest.audit.gates import Gate
from palimpsest.cli import main
from palimpsest.report.nouns import of_images
from palimpsest.report.page import render
from palimpsest.report.schema import RunResult
from palimpsest.report.terminal import verdict
from palimpsest.verbs.in_memory import Run

ROOT = Path(__file__).parents[2]
OLD = ROOT / "tests" / "frozen" / "0.1.0" / "text_unlearned"


class Nothing:
    """A model that leaves an empty folder."""

    def save(self, folder: Path) -> None:
        folder.mkdir()


@pytest.fixture
def run(tmp_path) -> Path:
    """The old record with ten rows of half-known text in retain, so that a gate on them can be decided."""
    values = json.loads((OLD / "result.json").read_text(encoding="utf-8"))
    for column in ("before", "after"):
        score = values["scores"][column]["retain"]["ma"]
        score |= {"value": 0.5, "low": 0.5, "high": 0.5, "n": 10, "by_id": {f"r{i}": 0.5 for i in range(10)}}
    (tmp_path / "result.json").write_text(json.dumps(values), encoding="utf-8")
    return tmp_path


def test_a_run_of_an_earlier_version_can_be_judged():
    assert pal.judge(OLD).verdict.outcome == RunResult.load(OLD / "result.json").verdict.outcome


def test_other_gates_give_another_verdict_and_write_nothing(run):
    before = (run / "result.json").read_bytes()
    judged = pal.judge(run, bounds=["retain ma >= 0.99"])
    assert judged.verdict.outcome == "failed"
    assert "retain ma at least 0.99" in judged.verdict.sentence
    assert judged.scores == pal.judge(run).scores
    assert (run / "result.json").read_bytes() == before


def test_gates_in_the_place_of_the_plan_s_leave_the_forget_set_its_own():
    judged = pal.judge(OLD, gates=[{"set": "retain", "metric": "ma", "at_least": 0.0}])
    gates = [row.gate for row in judged.verdict.gates]
    assert any("forget ma" in gate for gate in gates)
    assert not any("0.90 times" in gate for gate in gates)


def test_the_command_line_ends_with_the_verdict(run, capsys):
    assert main(["judge", str(run), "--gate", "retain ma >= 0.99", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["verdict"]["outcome"] == "failed"


def test_judging_needs_no_torch():
    code = f"import sys, palimpsest as pal; pal.judge({str(OLD)!r}); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": str(ROOT / "src")})


@pytest.mark.parametrize(("place", "bound", "said"), [("no-run", "a b >= 1", "no-run"), (OLD, "es", "cannot be read")])
def test_refusals(place, bound, said):
    with pytest.raises(pal.UsageError, match=said):
        pal.judge(place, bounds=[bound])


def test_an_old_record_of_images_is_judged_by_accuracy():
    judged = pal.judge(OLD.parent / "image_unlearned")
    gates = [row.gate for row in judged.verdict.gates]
    assert gates[1:] == [
        "forget accuracy at most 0.10 above the holdout's",
        "retain accuracy at least 0.90 times its value before",
    ]
    assert not any("--forget FILE" in line for line in judged.advice)


@pytest.mark.parametrize("name", ["text_learned", "text_unlearned", "text_adapter", "image_unlearned"])
def test_an_old_record_is_told_from_its_scores_whatever_was_asked(name):
    """Only accuracy and prob can be taken of both: a plan that asks for them, and gates of its own, leave the texts."""
    record = RunResult.load(OLD.parent / name / "result.json")
    assert of_images(record) is name.startswith("image")
    asked = {**record.plan, "measuring": {"metrics": ["accuracy", "prob"]}}
    both = record.model_copy(update={"plan": asked})
    assert of_images(both) is name.startswith("image")


def test_a_text_of_which_accuracy_was_asked_is_a_text():
    record = RunResult.load(OLD.parent / "image_unlearned" / "result.json")
    asked = {**record.plan, "measuring": {"metrics": ["accuracy", "prob"]}}
    assert not of_images(record.model_copy(update={"plan": asked, "verdict": None}))
    assert of_images(record.model_copy(update={"plan": asked, "verdict": None, "modality": "image"}))


def test_where_a_verdict_moved_it_is_said_with_the_reason():
    judged = pal.judge(OLD.parent / "text_learned")
    assert judged.moved == (
        "The run was recorded as failed and is not judged now: this version asks other things by default (no longer "
        "learn es at least 0.95)."
    )
    assert judged.moved in "\n".join(verdict(judged))
    assert judged.moved in render(judged)
    assert pal.judge(judged).moved == judged.moved
    assert pal.judge(OLD).moved == ""


def test_a_run_is_judged_by_the_gates_that_it_records(run):
    """Whatever the default gates of a later version are."""
    judged = pal.judge(run, bounds=["retain ma >= 0.99"])
    assert judged.moved == "The run was recorded as undecided and is failed now: other gates were given."
    assert [gate.sentence for gate in judged.gates] == [row.gate for row in judged.verdict.gates[1:]]
    judged.save_json(run / "again.json")
    again = pal.judge(run / "again.json")
    assert again.gates == judged.gates
    assert again.verdict == judged.verdict
    fewer = again.model_copy(update={"gates": (Gate(set="retain", metric="ma", at_least=0.4),)})
    assert [row.gate for row in pal.judge(fewer).verdict.gates][-1] == "retain ma at least 0.40"
    assert any("forget ma" in row.gate for row in pal.judge(fewer).verdict.gates)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"bounds": ["nosuch ma <= 0.1"]}, "unknown set of this run 'nosuch'; accepted: forget, holdout, retain"),
        ({"bounds": ["retain mq >= 0.99"]}, "unknown metric of this set 'mq'; did you mean 'ma'"),
        ({"gates": [{"set": "retain", "metric": "mq", "at_least": 1}]}, "did you mean 'ma'"),
        ({"gates": "retain ma >= 1"}, "gates is 'retain ma >= 1'; accepted: a list of rows"),
        ({"gates": {"set": "retain"}}, "accepted: a list of rows"),
        ({"gates": 3}, "gates is 3; accepted: a list of rows"),
        ({"bounds": [{"set": "retain"}]}, "bounds holds a dict"),
    ],
)
def test_gates_on_what_was_not_measured_or_that_are_none(how, said):
    with pytest.raises(pal.PalimpsestError, match=re.escape(said)):
        pal.judge(OLD, **how)


@pytest.mark.parametrize("run", [3, None, {"kind": "learn"}, object()])
def test_what_is_no_run(run):
    with pytest.raises(pal.UsageError, match="run is .*; accepted: the folder of a run"):
        pal.judge(run)


def test_one_line_is_one_bound(run):
    assert pal.judge(run, bounds="retain ma >= 0.99").verdict.outcome == "failed"


def test_a_run_in_memory_that_was_judged_anew_is_saved_as_it_says(run, tmp_path):
    held = Run.model_validate_json((run / "result.json").read_text(encoding="utf-8"))
    held._files = {"result.json": f"{held.model_dump_json(indent=1)}\n".encode(), "report.html": b"as it was"}
    assert held.report == "as it was"
    judged = pal.judge(held, bounds=["retain ma >= 0.99"])
    judged.hold(Nothing())
    judged.save(tmp_path / "saved")
    assert "retain ma at least 0.99" in judged.report
    assert (tmp_path / "saved" / "report.html").read_text(encoding="utf-8") == judged.report
    assert RunResult.load(tmp_path / "saved" / "result.json").verdict == judged.verdict
