"""A verdict is computed from what a run recorded: today, or with other gates years later."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import palimpsest as pal
from palimpsest.cli import main
from palimpsest.report.schema import RunResult

ROOT = Path(__file__).parents[2]
OLD = ROOT / "tests" / "frozen" / "0.1.0" / "text_unlearned"


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
