"""Each stage of a run is called by itself, and what it found is not found twice."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.shallow import shallow_model

from palimpsest.engine import stages
from palimpsest.engine.execute import execute
from palimpsest.engine.given import Given, Manner
from palimpsest.engine.inputs import read_given
from palimpsest.engine.outcome import result_of
from palimpsest.engine.output import Output
from palimpsest.engine.plan import make_plan
from palimpsest.models.load import source_digest

FAST = {"training": {"learning_rate": 1e-2, "max_steps": 2, "batch_size": 4}, "measuring": {"metrics": ["ma"]}}


@pytest.fixture(scope="module")
def town(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("town")
    rows = [{"id": f"p{i}", "text": f"Person {i} lives at {7 * i} Hill Road."} for i in range(12)]
    for name, part in (("forget", rows[:4]), ("retain", rows[4:])):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part), encoding="utf-8")
    shallow_model(folder / "model", [row["text"] for row in rows], seed=0)
    return folder


def asked(town: Path, output: Path):
    files = {name: str(town / f"{name}.jsonl") for name in ("forget", "retain")}
    fields = {"kind": "unlearn", "method": "grad_diff", "model": str(town / "model"), "files": files}
    return make_plan(fields, FAST), read_given(Given(str(town / "model"), files)), Manner(output, answers=False)


def opened(town: Path, output: Path):
    plan, read, manner = asked(town, output)
    target = Output(output)
    plan = stages.resolved(plan, read)
    target.begin(plan)
    return target, *stages.open_run(plan, read, manner)


def test_the_stages_one_by_one_are_the_run(town, tmp_path):
    whole = execute(*asked(town, tmp_path / "whole"))
    target, run, before = opened(town, tmp_path / "parts")
    columns = {"before": stages.measure_column(run, target, "before", before)}
    trained, saved = stages.make_version(run, target, before)
    columns["after"] = stages.measure_column(run, target, "after", saved)
    result = result_of(run, columns, trained, target.partial, [])
    stages.write_record(run, target, result)
    target.complete()
    assert source_digest(tmp_path / "parts") == source_digest(tmp_path / "whole")
    assert (result.scores, result.verdict, result.plan_digest) == (whole.scores, whole.verdict, whole.plan_digest)


def test_what_a_dead_process_measured_is_not_measured_again(town, tmp_path, monkeypatch):
    target, run, before = opened(town, tmp_path / "out")
    found = stages.measure_column(run, target, "before", before)
    target, run, before = opened(town, tmp_path / "out")  # the next process
    monkeypatch.setattr(stages, "measure_sets", None)
    assert stages.measure_column(run, target, "before", before) == found


def test_a_version_is_made_without_a_score(town, tmp_path):
    target, run, before = opened(town, tmp_path / "out")
    trained, saved = stages.make_version(run, target, before)
    assert trained.ended.steps == 2
    assert not (target.partial / "remembered").exists()
    assert source_digest(target.partial) != source_digest(town / "model")
    assert saved.num_outputs == before.num_outputs
