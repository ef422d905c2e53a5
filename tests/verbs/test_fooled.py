"""Runs that must never be called passed: each through the real verbs, with a small model that knows its rows."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.verbs.conftest import write_rows
from transformers import AutoConfig, AutoModelForCausalLM

import palimpsest as pal
from palimpsest.errors import PlanError
from palimpsest.records import Outcome
from palimpsest.report.schema import RunResult

LEARN = {"training": {"learning_rate": 3e-3, "max_steps": 60, "batch_size": 12, "num_train_epochs": 1000}}
LITTLE = {"training": {"learning_rate": 1e-7, "max_steps": 1, "batch_size": 6}}


@pytest.fixture(scope="module")
def ward(clinic, tmp_path_factory) -> Path:
    """known/ (recites all 12 rows), oracle/ (the same without 6 of them), forget and retain .jsonl, 6 rows each."""
    folder = tmp_path_factory.mktemp("ward")
    rows = [json.loads(line) for line in (clinic / "learn.jsonl").read_text().splitlines()]
    write_rows(folder / "forget.jsonl", rows[:6])
    write_rows(folder / "retain.jsonl", rows[6:])
    known = pal.learn(clinic / "base", clinic / "learn.jsonl", output=folder / "known", plan=LEARN)
    assert known.scores["after"]["learn"]["es"].value > 0.9
    oracle = pal.learn(clinic / "base", folder / "retain.jsonl", output=folder / "oracle", plan=LEARN)
    assert oracle.scores["after"]["learn"]["es"].value > 0.9
    return folder


def unlearn(ward: Path, output: Path, **how) -> RunResult:
    given = {"method": "grad_diff", "retain": ward / "retain.jsonl", "plan": LITTLE, **how}
    return pal.unlearn(ward / "known", ward / "forget.jsonl", output=output, **given)


def copy(source: Path, target: Path, *, record: bool = False) -> Path:
    """Of unknown history: nothing binds it to what is in it."""
    shutil.copytree(source, target)
    (target / "manifest.json").unlink()
    if not record:
        (target / "learned.json").unlink()
    return target


def refused(ward: Path, tmp_path: Path, words: str, **how) -> None:
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(PlanError, match=words) as refusal:
        unlearn(ward, tmp_path / "out", **how)
    assert "\n" not in str(refusal.value)
    assert sorted(tmp_path.rglob("*")) == before


def test_an_oracle_that_is_the_model(ward, tmp_path):
    words = r"--oracle .*known holds the weights of --model .*known, which knows the forget set; give a model retrained"
    refused(ward, tmp_path, words, oracle=ward / "known")
    refused(ward, tmp_path, "holds the weights of --model", oracle=copy(ward / "known", tmp_path / "renamed"))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_an_oracle_that_is_the_model_in_half_precision(ward, tmp_path, dtype):
    folder = copy(ward / "known", tmp_path / "half")
    AutoModelForCausalLM.from_pretrained(ward / "known").to(dtype).save_pretrained(folder)
    refused(ward, tmp_path, "holds the weights of --model", oracle=folder)


def test_an_oracle_that_is_the_model_in_other_shards(ward, tmp_path):
    folder = copy(ward / "known", tmp_path / "shards")
    (folder / "model.safetensors").unlink()
    AutoModelForCausalLM.from_pretrained(ward / "known").save_pretrained(folder, max_shard_size="300KB")
    assert len(list(folder.glob("*.safetensors"))) > 1
    refused(ward, tmp_path, "holds the weights of --model", oracle=folder)


@pytest.mark.parametrize(
    ("size", "words"),
    [
        (
            {"intermediate_size": 48},
            r"e\.g\. model\.layers\.0\.mlp\.\w+\.weight \(\d+x\d+ in the model, \d+x\d+ in the oracle\)",
        ),
        ({"num_hidden_layers": 1}, r"e\.g\. model\.layers\.1\.\S+ \(\S+ in the model, none in the oracle\)"),
        ({"num_hidden_layers": 3}, r"e\.g\. model\.layers\.2\.\S+ \(none in the model, \S+ in the oracle\)"),
    ],
)
def test_an_oracle_of_another_size(ward, tmp_path, size, words):
    folder = copy(ward / "oracle", tmp_path / "size")
    config = AutoConfig.from_pretrained(folder)
    for name, value in size.items():
        setattr(config, name, value)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    refused(ward, tmp_path, rf"is another model than --model .*{words}; give a model retrained", oracle=folder)


def test_an_oracle_that_was_never_trained_turns_no_good_run_into_a_pass(ward, clinic, tmp_path):
    """The version is the true oracle moved, so it forgot; what the untrained one scores is no level."""
    how = {"method": "retrain", "base": ward / "oracle", "plan": LITTLE}
    assert unlearn(ward, tmp_path / "good", oracle=ward / "oracle", **how).verdict.outcome is Outcome.PASSED
    result = unlearn(ward, tmp_path / "out", oracle=clinic / "base", **how)
    assert result.verdict.outcome is Outcome.UNDECIDED
    assert result.verdict.plain.startswith("Undecided: the oracle knows less of what stays than the model")
    assert any(line.startswith("Leave this oracle out") for line in result.advice)


def test_an_oracle_whose_record_holds_forget_ids(ward, tmp_path):
    folder = copy(ward / "known", tmp_path / "other", record=True)
    weights = load_file(folder / "model.safetensors")
    save_file({name: value + 1e-3 for name, value in weights.items()}, folder / "model.safetensors", {"format": "pt"})
    words = r"--oracle .*other learned 6 of the 6 forget examples \(first: 'p0'\), as its learned.json says; give a"
    refused(ward, tmp_path, words, oracle=folder)


def test_a_base_that_is_the_model_or_learned_the_forget_set(ward, tmp_path):
    words = "--base .*known is --model itself: a model retrained from it knows the forget set"
    refused(ward, tmp_path, words, method="retrain", base=ward / "known")
    folder = copy(ward / "known", tmp_path / "other", record=True)
    AutoModelForCausalLM.from_pretrained(ward / "known").to(torch.bfloat16).save_pretrained(folder)
    refused(ward, tmp_path, "--base .*other learned 6 of the 6", method="retrain", base=folder)


def test_an_oracle_that_knows_the_forget_set_without_a_record(ward, clinic, tmp_path):
    """Trained on everything from another seed: only its answers give it away."""
    plan = {"training": {**LEARN["training"], "seed": 5}}
    pal.learn(clinic / "model", clinic / "learn.jsonl", output=tmp_path / "taught", plan=plan)
    for name in ("learned.json", "manifest.json"):
        (tmp_path / "taught" / name).unlink()
    result = unlearn(ward, tmp_path / "out", oracle=tmp_path / "taught")
    assert result.oracle_origin == "unknown"
    assert result.verdict.outcome is Outcome.UNDECIDED
    assert result.verdict.plain.startswith("Undecided: the oracle seems to know the forget set itself")
    assert "oracle is of unknown origin" in result.verdict.sentence
    assert any("--make-oracle" in line for line in result.advice)


@pytest.mark.parametrize("oracle", [False, True])
def test_a_forget_set_that_is_known_as_before(ward, tmp_path, oracle):
    how = {"oracle": ward / "oracle"} if oracle else {}
    result = unlearn(ward, tmp_path / "out", **how)
    assert result.oracle_origin == ("recorded" if oracle else None)
    assert result.verdict.outcome is Outcome.FAILED
    ma = [result.scores[column]["forget"]["ma"].value for column in ("before", "after")]
    known = "Failed: the forget set is as known as before (MA {:.2f} before, {:.2f} after".format(*ma)
    assert result.verdict.plain.startswith(known)
    assert any("--lr" in line for line in result.advice)


def test_one_row_that_is_known_as_before(ward, tmp_path):
    row = json.loads((ward / "forget.jsonl").read_text().splitlines()[0])
    forget = write_rows(tmp_path / "one.jsonl", [row])
    result = pal.unlearn(
        ward / "known", forget, retain=ward / "retain.jsonl", output=tmp_path / "out", method="grad_diff", plan=LITTLE
    )
    assert result.verdict.outcome is Outcome.FAILED
    assert "as known as before" in result.verdict.plain


@pytest.mark.parametrize(
    "gates",
    [
        [],
        [{"set": "retain", "metric": "es", "at_least": 0.5}],
        [{"set": "forget", "metric": "es", "at_least": 0.0}],
    ],
    ids=["none", "retain alone", "forget, anything goes"],
)
def test_no_gates_of_a_plan_pass_a_set_that_is_known_as_before(ward, tmp_path, gates):
    result = unlearn(ward, tmp_path / "out", oracle=ward / "oracle", plan={**LITTLE, "gates": gates})
    assert result.verdict.outcome is Outcome.FAILED
    assert "as known as before" in result.verdict.plain
    asked = [gate.gate for gate in result.verdict.gates if gate.gate.startswith("forget es")]
    assert asked == ["forget es at least 0.00" if gates and gates[0]["set"] == "forget" else asked[0]]


def test_a_run_that_took_no_step(ward, clinic, tmp_path):
    """Levels at which every row passes at once."""
    plan = {**LITTLE, "refine": {"ma": 1.0, "el": 1.0}}
    result = unlearn(ward, tmp_path / "out", method="icu", plan=plan, oracle=ward / "oracle")
    assert result.stopped == "all examples pass"
    assert result.verdict.outcome is Outcome.FAILED
    assert any("took no step" in line for line in result.advice)


def test_an_oracle_of_unknown_origin_is_said_and_a_good_run_beside_it_passes(ward, tmp_path):
    """The model after is the oracle with its last bits moved: what unlearning should end as."""
    oracle = copy(ward / "oracle", tmp_path / "oracle")
    plan = {"training": {**LEARN["training"], "seed": 1}}
    how = {"method": "retrain", "base": ward.parent / "none"}
    how["base"] = oracle  # starts at the oracle's level and stays there
    result = unlearn(ward, tmp_path / "out", oracle=oracle, plan=plan, **how)
    assert result.oracle_origin == "base"
    again = unlearn(ward, tmp_path / "again", oracle=tmp_path / "out", plan=LITTLE, **how)
    assert again.verdict.outcome is Outcome.PASSED
    assert again.advice == ()
    assert again.oracle_origin == "recorded"
    for name in ("learned.json", "manifest.json"):
        (tmp_path / "out" / name).unlink()
    unknown = unlearn(ward, tmp_path / "unknown", oracle=tmp_path / "out", plan=LITTLE, **how)
    assert unknown.verdict.outcome is Outcome.PASSED
    assert unknown.verdict.sentence.endswith(
        "The oracle is of unknown origin: no record says what it learned, so it may have seen the forget set."
    )


def test_what_was_never_known_is_not_called_a_failure(ward, clinic, tmp_path):
    files = {"retain": ward / "retain.jsonl", "holdout": clinic / "holdout.jsonl"}
    result = pal.unlearn(
        clinic / "base", ward / "forget.jsonl", output=tmp_path / "out", method="grad_diff", plan=LITTLE, **files
    )
    assert result.verdict.outcome is not Outcome.FAILED


def test_learning_is_not_judged_unless_asked(ward, clinic, tmp_path):
    files = {"general": clinic / "general.jsonl"}
    assert RunResult.load(ward / "known" / "result.json").verdict is None
    kept = pal.learn(clinic / "base", clinic / "learn.jsonl", output=tmp_path / "kept", plan=LITTLE, **files)
    assert [gate.gate for gate in kept.verdict.gates] == ["general ppl at most 1.10 times its value before"]
    assert kept.verdict.outcome is Outcome.PASSED
    plan = {**LITTLE, "gates": [{"set": "learn", "metric": "es", "at_least": 0.95}]}
    asked = pal.learn(clinic / "base", clinic / "learn.jsonl", output=tmp_path / "asked", plan=plan)
    assert asked.verdict.outcome is Outcome.FAILED
    assert asked.advice == ("Leave --lr out, so that it learns to the end.",)
