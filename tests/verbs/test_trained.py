"""At the end of training the model is saved once, and a mark says so; no weights are written to be deleted."""

from __future__ import annotations

import json

import pytest

import palimpsest as pal
from palimpsest.engine import train
from palimpsest.loop import run as loop
from palimpsest.loop.job import Ended

STEPS = 4
PLAN = {"training": {"learning_rate": 1e-2, "max_steps": STEPS, "batch_size": 4}, "measuring": {"metrics": ["prob"]}}


class Died(Exception):
    pass


@pytest.fixture
def written(monkeypatch) -> list[int]:
    """Steps at which a checkpoint was written."""
    steps = []
    save = loop.save_checkpoint

    def saving(*given, **how):
        steps.append(how["state"]["step"])
        save(*given, **how)

    monkeypatch.setattr(loop, "save_checkpoint", saving)
    return steps


@pytest.fixture
def trained(monkeypatch) -> list[Ended]:
    """Ends of all loops that ran."""
    ends = []
    run = train.run
    monkeypatch.setattr(train, "run", lambda job: ends.append(run(job)) or ends[-1])
    return ends


def unlearn(clinic, output, *, plan=PLAN, dies="") -> pal.RunResult:
    def tell(stage: str, done: int, total: int, note: str = "") -> None:
        if dies and stage.startswith(dies):
            raise Died

    given = {"retain": clinic / "retain.jsonl", "plan": plan, "progress": tell}
    return pal.unlearn(clinic / "model", clinic / "forget.jsonl", output=output, method="grad_diff", **given)


@pytest.mark.parametrize(("every", "steps"), [(50, []), (3, [3]), (2, [2]), (4, [])])
def test_no_checkpoint_is_written_at_the_end(clinic, tmp_path, written, every, steps):
    plan = {**PLAN, "training": {**PLAN["training"], "checkpoint_steps": every}}
    unlearn(clinic, tmp_path / "out", plan=plan)
    assert written == steps
    assert not {"trained.json", "checkpoint.safetensors"} & {path.name for path in (tmp_path / "out").iterdir()}


def test_who_dies_while_the_saved_model_is_measured_is_not_trained_again(clinic, tmp_path, trained):
    whole = unlearn(clinic, tmp_path / "whole")
    trained.clear()
    with pytest.raises(Died):
        unlearn(clinic, tmp_path / "cut", dies="measuring after")
    model = tmp_path / "cut.partial" / "model.safetensors"
    mark = json.loads((tmp_path / "cut.partial" / "trained.json").read_text())
    assert (len(trained), mark["value"]["ended"]["steps"]) == (1, STEPS)
    stamp = model.stat().st_mtime_ns
    again = unlearn(clinic, tmp_path / "cut")
    assert len(trained) == 1
    model = tmp_path / "cut" / "model.safetensors"
    assert model.stat().st_mtime_ns == stamp
    assert model.read_bytes() == (tmp_path / "whole" / "model.safetensors").read_bytes()
    assert (again.scores, again.stopped, again.verdict) == (whole.scores, whole.stopped, whole.verdict)


def test_who_dies_before_the_mark_goes_on_from_the_last_checkpoint(clinic, tmp_path, monkeypatch):
    """Between the last step and the mark nothing is lost but the steps since the checkpoint."""
    plan = {**PLAN, "training": {**PLAN["training"], "checkpoint_steps": 3}}
    unlearn(clinic, tmp_path / "whole", plan=plan)

    def die(*_given, **_how):
        raise Died

    with monkeypatch.context() as dying:
        dying.setattr(train, "write_atomic", die)
        with pytest.raises(Died):
            unlearn(clinic, tmp_path / "cut", plan=plan)
    assert (tmp_path / "cut.partial" / "checkpoint.safetensors").exists()
    unlearn(clinic, tmp_path / "cut", plan=plan)
    files = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "cut")]
    assert files[0] == files[1]


def test_what_a_mark_holds_comes_back_as_it_was():
    ended = Ended("by plan", None, 3, 1.5, 0.5, 99, unchanged="nothing to do", parts={"steps": (1.0, 60)})
    assert Ended.from_json(json.loads(json.dumps(ended.to_json()))) == ended
