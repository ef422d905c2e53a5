"""An oracle made beside a run: from the base, trained as the model was, once; killed and gone on with; refusals."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from safetensors.torch import load_file

import palimpsest as pal
from palimpsest.cli import main
from palimpsest.companions.learned import read_record
from palimpsest.engine.oracle import recipe_of
from palimpsest.errors import PlanError

LEARN = {"training": {"learning_rate": 3e-3, "max_steps": 12, "batch_size": 6, "num_train_epochs": 1000}}
LITTLE = {"training": {"learning_rate": 1e-7, "max_steps": 1, "batch_size": 4}}


@pytest.fixture(scope="module")
def taught(clinic, tmp_path_factory) -> Path:
    """The base, taught all 12 rows."""
    folder = tmp_path_factory.mktemp("taught") / "model"
    pal.learn(clinic / "base", clinic / "learn.jsonl", output=folder, plan=LEARN)
    return folder


@pytest.fixture
def request_of(taught, clinic, tmp_path):
    """An unlearning with a made oracle, in which things are replaced; what it told stands in ``told``."""
    told: list[str] = []

    def run(output="out", **how):
        given = {"retain": clinic / "retain.jsonl", "base": clinic / "base", "method": "grad_diff", "plan": LITTLE}
        given = {name: value for name, value in {**given, "make_oracle": True, **how}.items() if value is not None}
        forget = given.pop("forget", clinic / "forget.jsonl")
        verb = given.pop("verb", pal.unlearn)
        return verb(taught, forget=forget, output=tmp_path / output, progress=tell, **given)

    def tell(stage, done, total, note=""):
        told.append(f"{stage} {done}/{total} {note}")

    run.told = told
    return run


def oracles(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / ".palimpsest" / "oracles").glob("*"))


def test_it_is_made_as_the_model_was_and_its_origin_is_known(request_of, clinic, tmp_path):
    result = request_of()
    (folder,) = oracles(tmp_path)
    assert list(result.scores) == ["before", "after", "oracle"]
    assert result.oracle_origin == "recorded"
    assert result.plan["oracle"] == str(folder)
    plan = json.loads((folder / "plan.json").read_text())
    # 12 steps of 6 over 12 rows are 6 passes; over the 8 rows that stay these are 8 steps.
    assert [plan["training"][key] for key in ("learning_rate", "batch_size", "max_steps")] == [3e-3, 6, 8]
    assert plan["method"] == "retrain"
    assert len(read_record(folder).learned) == 8
    made = json.loads((folder / "result.json").read_text())
    assert made["verdict"] is None
    parts = [made["cost"][part]["tokens"] for part in ("preparing", "training")]
    assert result.cost["oracle_training"].tokens == sum(parts)


def test_the_cost_is_told_before_it_starts(request_of):
    request_of()
    cost = next(i for i, line in enumerate(request_of.told) if line.startswith("oracle: retraining"))
    pattern = r"8 rows of retain; 8 steps, about [\d,]+ positions, about \d+ s for these alone"
    assert re.search(pattern, request_of.told[cost]), request_of.told[cost]
    assert next(i for i, line in enumerate(request_of.told) if line.startswith("oracle: training")) > cost


def test_the_second_time_it_is_reused_also_for_another_request(request_of, clinic, tmp_path):
    request_of()
    (folder,) = oracles(tmp_path)
    stamp = (folder / "model.safetensors").stat().st_mtime_ns
    forget = tmp_path / "fewer.jsonl"
    forget.write_text("".join((clinic / "forget.jsonl").read_text().splitlines(keepends=True)[:2]))
    request_of.told.clear()
    request_of("again", forget=forget)
    assert any(line.startswith("oracle: made before 1/1") for line in request_of.told)
    assert not any(line.startswith("oracle: training") for line in request_of.told)
    assert oracles(tmp_path) == [folder]
    assert (folder / "model.safetensors").stat().st_mtime_ns == stamp
    other = tmp_path / "other.jsonl"
    other.write_text("".join((clinic / "retain.jsonl").read_text().splitlines(keepends=True)[:6]))
    request_of("third", retain=other)
    assert len(oracles(tmp_path)) == 2


def test_killed_it_goes_on_to_the_same_bits(request_of, taught, clinic, tmp_path, monkeypatch):
    whole = request_of("whole")
    expected = load_file(Path(str(whole.plan["oracle"])) / "model.safetensors")
    recipe = {"training": {**LEARN["training"], "checkpoint_steps": 2}}
    pal.learn(clinic / "base", clinic / "learn.jsonl", output=tmp_path / "model", plan=recipe)
    given = {"retain": clinic / "retain.jsonl", "base": clinic / "base", "method": "grad_diff", "plan": LITTLE}

    def run(progress) -> None:
        output = tmp_path / "apart" / "out"
        pal.unlearn(
            tmp_path / "model", clinic / "forget.jsonl", output=output, progress=progress, make_oracle=True, **given
        )

    steps: list[int] = []

    def die(stage, done, total, note=""):
        if stage == "oracle: training" and done == 5:
            raise KeyboardInterrupt

    def count(stage, done, total, note=""):
        if stage == "oracle: training":
            steps.append(done)

    with pytest.raises(KeyboardInterrupt):
        run(die)
    run(count)
    assert steps[0] > 3, "it began again"
    (folder,) = oracles(tmp_path / "apart")
    again = load_file(folder / "model.safetensors")
    assert all(bool((value == again[name]).all()) for name, value in expected.items())


def test_an_update_that_learns_has_an_oracle_that_learned_it_too(request_of, clinic, tmp_path):
    result = request_of(verb=pal.update, learn=clinic / "holdout.jsonl", method="ug_clu")
    assert len(oracles(tmp_path)) == 2
    assert len(read_record(str(result.plan["oracle"])).learned) == 8 + 4
    assert result.oracle_origin == "recorded"


def test_a_model_of_unknown_recipe_gets_the_usual_training(clinic, taught, tmp_path):
    assert recipe_of(str(clinic / "base"), 8) == {}
    assert recipe_of(str(taught), 8)["training"]["max_steps"] == 8
    pal.unlearn(taught, clinic / "forget.jsonl", retain=clinic / "retain.jsonl", output=tmp_path / "v2", plan=LITTLE)
    assert recipe_of(str(tmp_path / "v2"), 4)["training"]["max_steps"] == 4  # of the run before, which learned


@pytest.mark.parametrize(
    ("replaced", "words"),
    [
        ({"base": None}, "--make-oracle retrains from the model before it learned anything; give it with --base DIR"),
        ({"retain": None, "method": "npo"}, "--make-oracle retrains on what must stay; give it with --retain FILE"),
        ({"oracle": "somewhere"}, "--make-oracle and --oracle were both given; give one of them"),
        ({"base": "taught"}, "--base .* is --model itself: a model retrained from it knows the forget set"),
    ],
)
def test_what_cannot_be_made_is_refused_before_anything_is_written(request_of, taught, tmp_path, replaced, words):
    replaced = {name: taught if value == "taught" else value for name, value in replaced.items()}
    with pytest.raises(PlanError, match=words):
        request_of(**replaced)
    assert list(tmp_path.iterdir()) == []


def test_an_update_without_a_forget_set_needs_none(taught, clinic, tmp_path):
    with pytest.raises(PlanError, match="without the forget set, and there is none; give it with --forget FILE"):
        pal.update(taught, learn=clinic / "holdout.jsonl", output=tmp_path / "out", make_oracle=True)


def test_the_command_line_makes_one(taught, clinic, tmp_path, capsys):
    sets = [x for name in ("forget", "retain") for x in (f"--{name}", str(clinic / f"{name}.jsonl"))]
    given = ["--model", str(taught), "--base", str(clinic / "base"), *sets, "-o", str(tmp_path / "out")]
    code = main(["unlearn", *given, "--method", "grad_diff", "--max-steps", "1", "--make-oracle"])
    out, err = capsys.readouterr()
    assert code in {1, 3}
    assert "oracle: retraining: 0/1 8 rows of retain; 8 steps, about" in err
    assert "before" in out.splitlines()[0]
    assert "oracle" in out.splitlines()[0]
    assert "Passed" not in out
