"""Folders made by released versions still load, measure as their records say, and give a report."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest

import palimpsest as pal
from palimpsest.cli import main
from palimpsest.companions.learned import check_learned
from palimpsest.data.read.examples import read_examples
from palimpsest.engine.inputs import encode_sets
from palimpsest.engine.measuring import chosen_metrics, measure_sets
from palimpsest.engine.plan import Plan
from palimpsest.engine.progress import silent
from palimpsest.engine.sections import Encoding, Measuring
from palimpsest.models.load import load
from palimpsest.report.schema import RunResult

FROZEN = Path(__file__).parent / "0.1.0"
FOLDERS = ("text_learned", "text_unlearned", "text_adapter", "image_unlearned")
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")


@pytest.fixture(autouse=True)
def inside(monkeypatch) -> None:
    """The folders name each other by relative paths."""
    monkeypatch.chdir(FROZEN)


def ending(name: str) -> str:
    return "npz" if name.startswith("image") else "jsonl"


def recorded(name: str) -> RunResult:
    return RunResult.load(FROZEN / name / "result.json")


def test_every_folder_is_tested():
    assert {path.parent.name for path in FROZEN.glob("*/result.json")} == set(FOLDERS)


@pytest.mark.parametrize("name", FOLDERS)
def test_what_is_measured_is_what_was_recorded(name):
    """Every set with every metric, per example."""
    result, loaded = recorded(name), load(name)
    files = {key: Path(f"{key}.{ending(name)}") for key in result.scores["after"]}
    sets = encode_sets({key: read_examples(path) for key, path in files.items()}, loaded, Encoding())
    measuring = Measuring(**{} if loaded.family.takes == "image" else result.plan["measuring"])
    scores, _ = measure_sets(loaded, sets, measuring, seed=0, column="after", progress=silent)
    for key, before in result.scores["after"].items():
        metrics = {metric.key for metric in chosen_metrics(measuring, key, loaded.family)}
        assert before.keys() == metrics == scores[key].keys()
        for metric, row in before.items():
            score = scores[key][metric]
            if score.version == row.version:  # a metric that was mended since may differ
                assert score.value == pytest.approx(row.value, rel=1e-5, abs=1e-7), (key, metric)
                assert dict(score.by_id) == pytest.approx(dict(row.by_id), rel=1e-5, abs=1e-7), (key, metric)


@pytest.mark.parametrize("name", FOLDERS)
def test_the_verb_measures_it(name):
    after = recorded(name).scores["after"]
    for key in after:
        found = pal.measure(name, f"{key}.{ending(name)}", metrics=["prob"]).scores["prob"]
        assert found.value == pytest.approx(after[key]["prob"].value, rel=1e-5)


def holds(new: object, old: object) -> bool:
    """Is all of an old record in a new one, which may have fields that the old one had not?"""
    if isinstance(old, dict) and isinstance(new, dict):
        return all(key in new and holds(new[key], value) for key, value in old.items())
    if isinstance(old, list) and isinstance(new, list):
        return len(old) == len(new) and all(map(holds, new, old))
    return new == old


@pytest.mark.parametrize("name", FOLDERS)
def test_its_record_parses_and_is_written_again_whole(name, tmp_path):
    result = recorded(name)
    result.save_json(tmp_path / "result.json")
    old = json.loads((FROZEN / name / "result.json").read_text())
    new = json.loads((tmp_path / "result.json").read_text())
    assert RunResult.load(tmp_path / "result.json") == result
    assert holds(new, old)
    plan = json.loads((FROZEN / name / "plan.json").read_text())
    assert plan.pop("digest") == result.plan_digest
    assert holds(Plan.model_validate(plan).model_dump(mode="json"), plan)


@pytest.mark.parametrize("name", FOLDERS)
def test_its_report_is_built_again(name, tmp_path, capsys):
    shutil.copytree(FROZEN / name, tmp_path / name)
    (tmp_path / name / "report.html").unlink()
    assert main(["report", str(tmp_path / name)]) == 0
    assert str(tmp_path / name / "report.html") in capsys.readouterr().out
    page = (tmp_path / name / "report.html").read_text(encoding="utf-8")
    assert recorded(name).method in page


@pytest.mark.parametrize("name", FOLDERS)
def test_it_is_said_to_have_no_manifest_and_its_verdict_to_follow_from_its_scores(name, tmp_path, capsys):
    assert main(["verify", name]) == 3
    assert "has no manifest.json" in capsys.readouterr().out
    shutil.copytree(FROZEN / name, tmp_path / name)
    assert main(["report", str(tmp_path / name), "--json"]) == 0
    out, err = capsys.readouterr()
    assert "is a run without manifest.json" in err
    verdict = json.loads(out)["verdict"]
    then = recorded(name).verdict
    if name == "text_learned":  # learning alone had a gate in 0.1.0
        assert verdict is None
        assert "the verdict written into result.json is failed; by its scores it is none" in err
    else:
        assert verdict["outcome"] == then.outcome


@pytest.mark.parametrize("name", FOLDERS)
def test_it_knows_what_it_learned(name):
    check_learned(read_examples(f"retain.{ending(name)}"), name)
    gone = "holdout" if name == "text_learned" else "forget"
    with pytest.raises(pal.DataError, match="never learned"):
        check_learned(read_examples(f"{gone}.{ending(name)}"), name)


@pytest.mark.parametrize("name", ["text_unlearned", "text_adapter", "image_unlearned"])
def test_life_goes_on_from_it(name, tmp_path):
    plan = {"training": {"learning_rate": 1e-2, "max_steps": 2, "batch_size": 4}}
    files = {key: f"{key}.{ending(name)}" for key in ("retain", "holdout")}
    again = pal.learn(name, f"forget.{ending(name)}", output=tmp_path / "next", holdout=files["holdout"], plan=plan)
    then = recorded(name).scores["after"]["forget"]["prob"]
    assert again.scores["before"]["learn"]["prob"].value == pytest.approx(then.value, rel=1e-5)
    assert again.scores["after"]["learn"]["prob"].value != pytest.approx(then.value, rel=1e-5)


CONTENT = "f89a98387c532fc036c29b71fbbc67571e7b3f75fc3a9fbb0103b379afb3a496"


def test_nothing_was_made_anew():
    """A folder that a newer version wrote would prove nothing."""
    files = sorted(path for name in FOLDERS for path in (FROZEN / name).iterdir())
    total = hashlib.sha256()
    for path in files:
        total.update(f"{path.relative_to(FROZEN)} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    assert total.hexdigest() == CONTENT
