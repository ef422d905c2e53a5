"""``--restore``: what is saved and judged is the model after giving back; rows are held out; a death at any moment."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from tests.verbs.conftest import write_rows
from tests.verbs.test_kill import DIED, DONE, run_with_deaths

import palimpsest as pal
from palimpsest.cli import main
from palimpsest.engine.held_back import with_calibration
from palimpsest.engine.inputs import Read
from palimpsest.engine.plan import make_plan
from palimpsest.engine.plan_record import recorded_digest
from palimpsest.errors import DataError, PlanError
from palimpsest.models.load import load
from palimpsest.records import Example, Text
from palimpsest.report.schema import RunResult

TRAINING = {"batch_size": 4, "learning_rate": 1e-3, "max_steps": 10}
PLAN = {"training": TRAINING, "measuring": {"metrics": ["es"]}}


@pytest.fixture(scope="module")
def known(clinic, tmp_path_factory) -> Path:
    """The clinic with ``learned``, a model that knows its rows."""
    folder = tmp_path_factory.mktemp("restore") / "clinic"
    shutil.copytree(clinic, folder)
    plan = {"training": {"batch_size": 4, "learning_rate": 5e-3, "max_steps": 90}, "measuring": {"metrics": ["es"]}}
    pal.learn(folder / "model", folder / "learn.jsonl", output=folder / "learned", plan=plan)
    return folder


def unlearn(clinic: Path, output: Path, **how) -> RunResult:
    given = {"retain": clinic / "retain.jsonl", "method": "gradient_ascent", "plan": PLAN, "answers": False, **how}
    return pal.unlearn(clinic / "learned", clinic / "forget.jsonl", output=output, **given)


def restored(clinic: Path, output: Path) -> RunResult:
    return unlearn(clinic, output, restore=0.9)


@pytest.fixture(scope="module")
def raw(known, tmp_path_factory) -> tuple[Path, RunResult]:
    output = tmp_path_factory.mktemp("raw") / "out"
    return output, unlearn(known, output)


@pytest.fixture(scope="module")
def done(known, tmp_path_factory) -> tuple[Path, RunResult]:
    output = tmp_path_factory.mktemp("restored") / "out"
    return output, restored(known, output)


def test_what_is_saved_lies_between_and_is_what_was_measured_and_judged(known, raw, done):
    output, result = done
    alpha = result.calibration.alpha
    assert 0 < alpha < 1
    before, after, found = (load(f).model.state_dict() for f in (known / "learned", raw[0], output))
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, (1 - alpha) * before[name] + alpha * after[name], rtol=1e-6, atol=1e-7)
    measured = pal.measure(output, known / "retain.jsonl", metrics=["es"]).scores["es"].value
    assert result.scores["after"]["retain"]["es"].value == pytest.approx(measured)
    assert measured >= 0.9 * result.scores["before"]["retain"]["es"].value
    assert result.scores["raw"] == raw[1].scores["after"]
    gate = next(g for g in result.verdict.gates if g.gate.startswith("retain"))
    assert f"{measured:.2f}" in gate.sentence
    assert pal.verify(output).holds
    assert result.model_digest != raw[1].model_digest
    assert pal.judge(output).verdict == result.verdict


def test_it_is_calibrate_after_the_run(known, raw, done, tmp_path):
    result = pal.calibrate(known / "learned", raw[0], known / "retain.jsonl", output=tmp_path / "c", tau=0.9)
    assert result.calibration == done[1].calibration
    assert result.model_digest == done[1].model_digest


def test_a_plan_without_it_does_not_name_it_and_one_with_it_does(raw, done):
    plan = json.loads((raw[0] / "plan.json").read_text())
    assert not plan.get("restore")
    without = {name: value for name, value in plan.items() if name != "restore"}
    assert recorded_digest(without) == recorded_digest(plan) == raw[1].plan_digest
    assert json.loads((done[0] / "plan.json").read_text())["restore"]["share"] == 0.9
    assert raw[1].plan_digest != done[1].plan_digest


def test_the_notes_say_what_it_was_found_by_and_what_is_known_again(done):
    notes = " ".join(done[1].notes)
    assert "8 rows of retain that were trained on: too few to hold any out" in notes
    assert "counts as forgotten" in notes


def rows(number: int) -> list[Example]:
    return [Example(f"r{i}", Text(f"row {i}")) for i in range(number)]


def plan_of(**sections) -> object:
    fields = {"kind": "unlearn", "method": "grad_diff", "model": "m", "files": {"forget": "f", "retain": "r"}}
    return make_plan(fields, {"control": {"kind": "none"}, **sections})


def test_a_fifth_is_held_out_by_the_seed_and_never_trained_on():
    read = Read({"forget": rows(1), "retain": rows(100)})
    first, again, other = (
        with_calibration(plan_of(restore={"share": 0.9}, training={"seed": seed}), read).examples for seed in (0, 0, 1)
    )
    assert len(first["calibration"]) == 20
    assert {e.id for e in first["calibration"]}.isdisjoint(e.id for e in first["retain"])
    assert {e.id for e in (*first["calibration"], *first["retain"])} == {e.id for e in read.examples["retain"]}
    assert first == again
    assert first != other
    assert with_calibration(plan_of(), read) == read
    few = with_calibration(plan_of(restore=0.9), Read({"forget": [], "retain": rows(49)}))
    assert "calibration" not in few.examples
    most = with_calibration(plan_of(restore={"rows": 7}), read)
    assert len(most.examples["calibration"]) == 7


def test_rows_of_its_own_are_taken_measured_and_kept_apart(known, tmp_path):
    lines = [json.loads(line) for line in (known / "retain.jsonl").read_text().splitlines()]
    own, rest = write_rows(tmp_path / "own.jsonl", lines[:3]), write_rows(tmp_path / "rest.jsonl", lines[3:])
    result = unlearn(known, tmp_path / "out", retain=rest, calibration=own, restore=0.9)
    assert result.calibration.set == "calibration"
    assert result.scores["after"]["calibration"]["es"].value >= result.calibration.bound
    with pytest.raises(DataError, match="calibration"):
        unlearn(known, tmp_path / "twice", calibration=own, restore=0.9)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"restore": 0}, "restore.share = 0.*greater than 0"),
        ({"restore": 1.5}, "restore.share = 1.5"),
        ({"restore": "much"}, "restore is 'much'; accepted: a share"),
        ({"restore": 0.9, "retain": None}, "restore needs rows that must stay"),
        ({"calibration": "own"}, "give --restore"),
        ({"plan": {**PLAN, "restore": {"share": 0.9, "metric": "esx"}}}, "esx"),
        ({"plan": {**PLAN, "restore": {"shar": 0.9}}}, "shar.*did you mean 'share'"),
        ({"restore": 0.9, "plan": {**PLAN, "scope": {"kind": "lora", "merge": False}}}, "restore saves a plain model"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_written(known, tmp_path, how, words):
    own = {"calibration": known / "holdout.jsonl"} if "calibration" in how else {}
    with pytest.raises(PlanError, match=words):
        unlearn(known, tmp_path / "out", **{**how, **own})
    assert list(tmp_path.iterdir()) == []


def test_on_the_command_line_and_in_a_plan_file(known, done, tmp_path, capsys):
    plan = tmp_path / "plan.json"
    plan.write_text(json.dumps({**PLAN, "restore": 0.9}))
    sets = ("--forget", known / "forget.jsonl", "--retain", known / "retain.jsonl", "--no-answers")
    given = ("unlearn", "--model", known / "learned", *sets, "--method", "gradient_ascent", "--plan", plan)
    assert main([*map(str, given), "-o", str(tmp_path / "out")]) in (1, 3)
    assert "What it cost: forget es" in capsys.readouterr().out
    assert RunResult.of_run(tmp_path / "out").model_digest == done[1].model_digest


def what_counts(folder: Path) -> dict[str, object]:
    result = json.loads((folder / "result.json").read_text())
    return {
        "files": sorted(path.name for path in folder.iterdir()),
        "model": (folder / "model.safetensors").read_bytes(),
        **{key: result[key] for key in ("scores", "calibration", "verdict", "plan_digest", "model_digest")},
    }


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_death_at_every_moment_after_training(known, done, tmp_path):
    """Every process dies at the first moment at which none died before it; those before the end of training apart."""
    seen: list[str] = []
    output = tmp_path / "out"

    def is_new(name: str, _count: int) -> bool:
        return name not in seen and any(word in name for word in ("restored", "mixed", "raw", "trained.json", "after"))

    while (code := run_with_deaths(restored, known, output, is_new)) == DIED:
        seen.append((tmp_path / "died-at").read_text())
    assert code == DONE
    assert what_counts(output) == what_counts(done[0])
    kinds = " ".join(seen)
    for place in ("restored/", "restored.json", "mixed-retain", "trained.json", "os.rename"):
        assert place in kinds
