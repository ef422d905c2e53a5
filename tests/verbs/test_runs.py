"""Whole runs on a small clinic, through the same functions as the command line."""

from __future__ import annotations

import json
import os

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

import palimpsest as pal
from palimpsest.engine import execute, stages
from palimpsest.errors import DataError, DivergedError, ModelError, PlanError
from palimpsest.report.schema import RunResult

FAST = {"training": {"learning_rate": 1e-2, "max_steps": 6, "batch_size": 4}}


def unlearn(clinic, output, **how):
    given = {"retain": clinic / "retain.jsonl", "general": clinic / "general.jsonl", "plan": FAST, **how}
    return pal.unlearn(clinic / "model", clinic / "forget.jsonl", output=output, **given)


def test_learning_raises_what_is_known_and_the_folder_loads(clinic, tmp_path):
    plan = {"training": {"learning_rate": 1e-2, "max_steps": 30, "batch_size": 4}}
    result = pal.learn(
        clinic / "model", clinic / "learn.jsonl", output=tmp_path / "v1", replay=clinic / "general.jsonl", plan=plan
    )
    before, after = (result.scores[c]["learn"]["prob"].value for c in ("before", "after"))
    assert after > 3 * before
    assert RunResult.load(tmp_path / "v1" / "result.json") == result
    AutoModelForCausalLM.from_pretrained(tmp_path / "v1")
    AutoTokenizer.from_pretrained(tmp_path / "v1")
    left = {path.name for path in (tmp_path / "v1").iterdir()}
    assert {"plan.json", "result.json", "report.html", "model.safetensors", "metrics.jsonl"} <= left
    assert not left & {"checkpoint.safetensors", "reference", "remembered"}
    assert not (tmp_path / "v1.partial").exists()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such modes")
def test_what_tells_of_rows_is_its_owners_alone_and_the_finished_folder_as_the_umask_lets(clinic, tmp_path):
    modes: dict[str, int] = {}
    telling = {}

    def look(stage: str, done: int, total: int, note: str = "") -> None:
        partial = tmp_path / "out.partial"
        files = [path for path in partial.rglob("*.*") if path.is_file()]
        telling.update({str(f.relative_to(partial)): f.stat().st_mode & 0o777 for f in files if f.name != "plan.json"})

    plan = {**FAST, "training": {**FAST["training"], "checkpoint_steps": 1}}
    unlearn(clinic, tmp_path / "out", method="npo", plan=plan, progress=look)
    usual = {
        name for name in telling if name in ("metrics.jsonl", "trained.json") or (tmp_path / "out" / name).exists()
    }
    private = {name: mode for name, mode in telling.items() if name not in usual}
    assert {"checkpoint.safetensors", "reference/head.safetensors", "remembered/before.json"} <= private.keys()
    assert set(private.values()) == {0o600}
    modes |= {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "out").rglob("*.*")}
    assert {"model.safetensors", "result.json", "tokenizer.json"} <= modes.keys()
    assert len(set(modes.values())) == 1, modes


@pytest.mark.parametrize("method", ["icu", "grad_diff", "gradient_ascent", "kl", "npo", "random_edit"])
def test_every_unlearning_method_runs_and_is_measured(clinic, tmp_path, method):
    result = unlearn(clinic, tmp_path / "out", method=method, plan=FAST if method != "random_edit" else {})
    assert result.method == method
    assert set(result.scores) == {"before", "after"}
    assert result.scores["after"]["forget"]["prob"].value != result.scores["before"]["forget"]["prob"].value
    assert set(result.scores["after"]["forget"]["es"].by_id) == {"p0", "p1", "p2", "p3"}
    assert result.cost["training"].seconds >= 0


def test_the_same_call_again_returns_the_finished_run(clinic, tmp_path):
    first = unlearn(clinic, tmp_path / "out")
    stamp = (tmp_path / "out" / "model.safetensors").stat().st_mtime_ns
    told = []
    assert unlearn(clinic, tmp_path / "out", progress=lambda *word: told.append(word)) == first
    date = first.created.replace("T", " ")[:19]
    words = f"already done on {date} UTC: the result of {tmp_path / 'out'} is shown again; nothing was run"
    assert told == [(words, 0, 0)]
    assert (tmp_path / "out" / "model.safetensors").stat().st_mtime_ns == stamp


def test_the_same_plan_gives_the_same_bits_anywhere(clinic, tmp_path):
    results = [unlearn(clinic, tmp_path / name) for name in ("a", "b")]
    files = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("a", "b")]
    assert files[0] == files[1]
    assert results[0].plan_digest == results[1].plan_digest
    other = unlearn(clinic, tmp_path / "c", plan={"training": {**FAST["training"], "seed": 1}})
    assert other.plan_digest != results[0].plan_digest
    assert (tmp_path / "c" / "model.safetensors").read_bytes() != files[0]


def test_retraining_starts_from_the_base_and_serves_as_oracle(clinic, tmp_path):
    retrained = unlearn(clinic, tmp_path / "oracle", method="retrain", base=clinic / "base")
    assert retrained.cost["training"].tokens > 0
    result = unlearn(clinic, tmp_path / "out", oracle=tmp_path / "oracle")
    assert list(result.scores) == ["before", "after", "oracle"]
    assert result.scores["oracle"]["forget"] == retrained.scores["after"]["forget"]
    spent = [retrained.cost[name].tokens for name in ("preparing", "training")]
    assert result.cost["oracle_training"].tokens == sum(spent)
    assert result.oracle_origin == "recorded"
    assert any("oracle" in gate.gate for gate in result.verdict.gates)


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
def test_lora_moves_the_adapter_alone_and_merges(clinic, tmp_path):
    unlearn(clinic, tmp_path / "out", plan={**FAST, "scope": {"kind": "lora", "rank": 2, "lora_alpha": 4.0}})
    before, after = (load_file(f / "model.safetensors") for f in (clinic / "model", tmp_path / "out"))
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {name for name in before if "_proj" in name}


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
def test_an_adapter_folder_is_a_model_too(clinic, tmp_path):
    scope = {"kind": "lora", "rank": 2, "merge": False}
    unlearn(clinic, tmp_path / "adapter", plan={**FAST, "scope": scope})
    assert (tmp_path / "adapter" / "adapter_config.json").is_file()
    scores = pal.measure(tmp_path / "adapter", clinic / "forget.jsonl", metrics=["prob"]).scores
    result = RunResult.load(tmp_path / "adapter" / "result.json")
    assert scores["prob"].value == pytest.approx(result.scores["after"]["forget"]["prob"].value, abs=1e-6)


def test_named_layers_move_and_no_others(clinic, tmp_path):
    unlearn(clinic, tmp_path / "out", plan={**FAST, "scope": {"kind": "layers", "names": [r"layers\.1\.mlp"]}})
    before, after = (load_file(f / "model.safetensors") for f in (clinic / "model", tmp_path / "out"))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {name for name in before if "layers.1.mlp" in name}


def test_refinement_writes_a_curve_and_says_how_it_ended(clinic, tmp_path):
    plan = {**FAST, "refine": {"ma": 0.0, "el": 0.0}}
    result = unlearn(clinic, tmp_path / "out", holdout=clinic / "holdout.jsonl", plan=plan)
    assert next(point.step for point in result.curve) == 0
    assert all({"forget.ma", "forget.el_10", "general.ppl", "retain.prob"} <= p.values.keys() for p in result.curve[:1])
    assert result.stopped.startswith("budget: 6 steps") or result.stopped == "all examples pass"


@pytest.mark.parametrize("test", ["bleu"])
def test_the_papers_own_test_can_refine(clinic, tmp_path, test):
    result = unlearn(clinic, tmp_path / "out", plan={**FAST, "refine": {"test": test}})
    assert "forget.remembered" in result.curve[0].values


def test_another_plan_is_not_written_over(clinic, tmp_path):
    unlearn(clinic, tmp_path / "out")
    with pytest.raises(PlanError, match=r"holds the run of another plan \(it differs in .*method"):
        unlearn(clinic, tmp_path / "out", method="npo")
    plan = json.loads((tmp_path / "out" / "plan.json").read_text())
    assert plan["method"] == "icu"


def test_another_process_is_not_disturbed(clinic, tmp_path, monkeypatch):
    train = stages.train

    def train_twice(*given, **how):
        with pytest.raises(PlanError, match=r"out.partial is being written by another process; wait, or give another"):
            unlearn(clinic, tmp_path / "out")
        return train(*given, **how)

    monkeypatch.setattr(stages, "train", train_twice)
    unlearn(clinic, tmp_path / "out")


def test_a_run_that_another_process_ended_meanwhile_is_not_run_again(clinic, tmp_path, monkeypatch):
    held = execute.Output.held

    def held_late(target):
        monkeypatch.setattr(execute.Output, "held", held)
        unlearn(clinic, tmp_path / "out")
        monkeypatch.setattr(stages, "train", None)
        return held(target)

    monkeypatch.setattr(execute.Output, "held", held_late)
    result = unlearn(clinic, tmp_path / "out")
    assert result == RunResult.load(tmp_path / "out" / "result.json")
    assert not (tmp_path / "out.partial").exists()


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        (5, "plan is 5; accepted: a mapping of preset, options"),
        ({"training": None}, "plan: section 'training' is None; accepted: a mapping"),
        ({"measuring": None}, "section 'measuring' is None"),
        ({"options": 5}, "section 'options' is 5"),
    ],
)
def test_a_plan_that_is_none(clinic, tmp_path, plan, words):
    files = {name: clinic / f"{name}.jsonl" for name in ("forget", "retain")}
    with pytest.raises(PlanError, match=words):
        pal.unlearn(clinic / "model", output=tmp_path / "out", plan=plan, **files)
    with pytest.raises(PlanError, match="0 threads; accepted: 1 to 1024"):
        pal.unlearn(clinic / "model", output=tmp_path / "out", threads=0, **files)


def test_the_run_of_another_version_is_not_taken_for_this_one(clinic, tmp_path, monkeypatch):
    unlearn(clinic, tmp_path / "out")
    monkeypatch.setattr("palimpsest.engine.plan.VERSION", "0.2.0")
    with pytest.raises(PlanError, match=r"holds the run of another plan \(or of another version of palimpsest\)"):
        unlearn(clinic, tmp_path / "out")


def test_the_run_of_the_code_as_it_was_is_not_taken_for_one_as_it_is(clinic, tmp_path, monkeypatch):
    unlearn(clinic, tmp_path / "out")
    monkeypatch.setattr("palimpsest.engine.plan.code_digest", lambda modules, files: "edited")
    with pytest.raises(PlanError, match="holds the run of another plan"):
        unlearn(clinic, tmp_path / "out")


def test_after_a_run_that_diverged_the_output_is_free_for_a_better_plan(clinic, tmp_path):
    wild = {"training": {"learning_rate": 1e30, "max_steps": 9}}
    with pytest.raises(DivergedError):
        unlearn(clinic, tmp_path / "out", plan=wild)
    assert "lower the learning rate" in (tmp_path / "out.partial" / "rejected.txt").read_text()
    assert unlearn(clinic, tmp_path / "out").stopped
    assert not (tmp_path / "out.partial").exists()
    assert not (tmp_path / "out" / "rejected.txt").exists()


def test_what_was_never_learned_cannot_be_forgotten(clinic, tmp_path):
    pal.learn(clinic / "model", clinic / "learn.jsonl", output=tmp_path / "v1", plan=FAST)
    request = {"retain": clinic / "retain.jsonl", "plan": FAST}
    with pytest.raises(DataError, match="4 of 4 ids .* were never learned"):
        pal.unlearn(tmp_path / "v1", clinic / "holdout.jsonl", output=tmp_path / "no", **request)
    pal.unlearn(tmp_path / "v1", clinic / "forget.jsonl", output=tmp_path / "v2", **request)
    with pytest.raises(DataError, match=r"4 of 4 rows .* were forgotten by .*--allow-forgotten"):
        pal.unlearn(tmp_path / "v2", clinic / "forget.jsonl", output=tmp_path / "v3", **request)


def test_a_model_taught_elsewhere_is_asked_again_and_again(clinic, tmp_path):
    request = {"retain": clinic / "retain.jsonl", "plan": FAST}
    pal.unlearn(clinic / "model", clinic / "forget.jsonl", output=tmp_path / "v1", **request)
    (record,) = json.loads((tmp_path / "v1" / "learned.json").read_text())["parts"].values()
    assert record["elsewhere"]
    pal.unlearn(tmp_path / "v1", clinic / "holdout.jsonl", output=tmp_path / "v2", **request)


def test_the_record_can_be_dropped_by_its_name(clinic, tmp_path):
    pal.learn(clinic / "model", clinic / "learn.jsonl", output=tmp_path / "v1", plan=FAST)
    request = {"retain": clinic / "retain.jsonl", "plan": FAST}
    with pytest.raises(DataError, match="delete .*learned.json if the model has also learned elsewhere"):
        pal.unlearn(tmp_path / "v1", clinic / "holdout.jsonl", output=tmp_path / "v2", **request)
    (tmp_path / "v1" / "learned.json").unlink()
    with pytest.raises(ModelError, match="v1 is not as its run left it: learned.json is missing"):
        pal.unlearn(tmp_path / "v1", clinic / "holdout.jsonl", output=tmp_path / "v2", **request)
    (tmp_path / "v1" / "manifest.json").unlink()
    pal.unlearn(tmp_path / "v1", clinic / "holdout.jsonl", output=tmp_path / "v2", **request)


def test_steps_reach_a_tracker(clinic, tmp_path):
    pytest.importorskip("tensorboard")
    unlearn(clinic, tmp_path / "out", report_to=["tensorboard"])
    assert list((tmp_path / "out").rglob("events.out.tfevents.*"))
