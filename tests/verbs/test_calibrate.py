"""Calibration as a user meets it: what comes out, what is said, what is refused, and a death at any moment."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from tests.verbs.test_kill import DIED, DONE, in_a_fork, run_with_deaths

import palimpsest as pal
from palimpsest.cli import main
from palimpsest.demo.tiny_model import new_model
from palimpsest.errors import DataError, ModelError, PlanError
from palimpsest.models.load import load
from palimpsest.report.schema import RunResult

TRAINING = {"batch_size": 4, "learning_rate": 5e-3, "max_steps": 90}
MEASURING = {"metrics": ["es"]}


@pytest.fixture(scope="module")
def pair(clinic, tmp_path_factory) -> Path:
    """The clinic with ``learned``, which knows its rows, and ``ga``, which an ascent took too far; ``lora`` beside."""
    folder = tmp_path_factory.mktemp("calibrate") / "clinic"
    shutil.copytree(clinic, folder)
    plan = {"training": TRAINING, "measuring": MEASURING}
    pal.learn(folder / "model", folder / "learn.jsonl", output=folder / "learned", plan=plan)
    ascent = {"training": {"batch_size": 4, "learning_rate": 1e-3, "max_steps": 10}, "measuring": MEASURING}
    how = {"retain": folder / "retain.jsonl", "method": "gradient_ascent"}
    pal.unlearn(folder / "learned", folder / "forget.jsonl", output=folder / "ga", plan=ascent, **how)
    kept = {**ascent, "scope": {"kind": "lora", "merge": False}}
    kept["training"] = {**ascent["training"], "learning_rate": 1e-2}
    pal.unlearn(folder / "learned", folder / "forget.jsonl", output=folder / "lora", plan=kept, **how)
    return folder


def calibrate(pair: Path, output: Path, after: str = "ga", **how) -> RunResult:
    given = {"forget": pair / "forget.jsonl", **how}
    return pal.calibrate(pair / "learned", pair / after, pair / "retain.jsonl", output=output, **given)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load(folder).model.state_dict()


@pytest.fixture(scope="module")
def done(pair, tmp_path_factory) -> tuple[Path, RunResult]:
    output = tmp_path_factory.mktemp("done") / "c"
    return output, calibrate(pair, output)


def test_the_folder_holds_the_mixed_weights_and_answers_as_measured(pair, done):
    output, result = done
    alpha = result.calibration.alpha
    assert 0 < alpha < 1
    before, after, found = (weights(folder) for folder in (pair / "learned", pair / "ga", output))
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, (1 - alpha) * before[name] + alpha * after[name], rtol=1e-6, atol=1e-7)
    measured = pal.measure(output, pair / "retain.jsonl", metrics=["es"]).scores["es"].value
    assert result.scores["after"]["retain"]["es"].value == pytest.approx(measured)
    assert dict(result.calibration.points)[alpha] == pytest.approx(measured)


def test_it_keeps_tau_and_the_next_alpha_does_not(done):
    info = done[1].calibration
    values = dict(info.points)
    assert info.bound == pytest.approx(0.95 * values[0])
    assert values[info.alpha] >= info.bound > values[info.alpha + 1 / 64]
    assert info.evaluations <= 7
    assert done[1].scores["before"]["retain"]["es"].value == values[0]
    assert done[1].scores["raw"]["retain"]["es"].value == values[1]


def test_the_record_is_whole(pair, done):
    output, result = done
    assert pal.verify(output).holds
    assert not output.with_name("c.partial").exists()
    assert {"tokenizer.json", "learned.json", "report.html", "plan.json", "manifest.json"} <= {
        p.name for p in output.iterdir()
    }
    assert (output / "learned.json").read_text() == (pair / "ga" / "learned.json").read_text()
    assert RunResult.load(output / "result.json") == result
    assert any("counts as forgotten" in note for note in result.notes)
    assert result.verdict is None
    assert set(result.scores) == {"before", "raw", "after"}
    page = (output / "report.html").read_text()
    assert "What was given back" in page
    assert "came back toward before" in page


def test_a_record_without_a_calibration_does_not_mention_one(pair):
    assert "calibration" not in json.loads((pair / "ga" / "result.json").read_text())


def test_again_it_is_shown_and_nothing_is_run(pair, done, capsys):
    told = []
    again = calibrate(pair, done[0], progress=lambda stage, *_: told.append(stage))
    assert again == done[1]
    assert any("already done" in stage for stage in told)


def test_the_model_can_be_worked_on_and_its_rows_are_known_as_forgotten(pair, done, tmp_path):
    with pytest.raises(DataError, match="were forgotten by"):
        pal.unlearn(done[0], pair / "forget.jsonl", retain=pair / "retain.jsonl", output=tmp_path / "again")


def test_an_adapter_is_scaled_into_a_plain_model(pair, tmp_path):
    result = calibrate(pair, tmp_path / "c", "lora", tau=0.9)
    alpha = result.calibration.alpha
    before, after, found = (weights(folder) for folder in (pair / "learned", pair / "lora", tmp_path / "c"))
    assert not (tmp_path / "c" / "adapter_config.json").exists()
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, (1 - alpha) * before[name] + alpha * after[name], rtol=1e-5, atol=1e-6)


def test_a_change_that_costs_nothing_stays_whole(pair, tmp_path):
    result = pal.calibrate(
        pair / "learned", pair / "ga", pair / "retain.jsonl", output=tmp_path / "c", tau=0.001, metric="prob"
    )
    assert (result.calibration.alpha, result.calibration.evaluations) == (1, 1)
    assert all(torch.equal(tensor, weights(pair / "ga")[name]) for name, tensor in weights(tmp_path / "c").items())


def test_where_nothing_can_stay_the_exit_code_and_the_words_say_so(pair, tmp_path, capsys):
    """The change is all that was learned, backwards: the least of it costs some of what was to stay."""
    places = ("--before", pair / "learned", "--after", pair / "model", "--retain", pair / "retain.jsonl")
    strict = ("--metric", "prob", "--tau", "1", "-o", tmp_path / "c")
    assert main([*map(str, ("calibrate", *places, *strict))]) == 1
    assert "Nothing of the change can stay" in capsys.readouterr().out
    assert (tmp_path / "c" / "learned.json").read_text() == (pair / "learned" / "learned.json").read_text()
    assert all(torch.equal(t, weights(pair / "learned")[name]) for name, t in weights(tmp_path / "c").items())


def test_models_in_memory_are_taken(pair, done, tmp_path):
    before, after = (load(pair / name) for name in ("learned", "ga"))
    given = [pal.Model.of(one.model, one.tokenizer) for one in (before, after)]
    result = pal.calibrate(*given, pair / "retain.jsonl", output=tmp_path / "c", limit=400)
    assert result.calibration == done[1].calibration
    assert "in memory" in (tmp_path / "c" / "plan.json").read_text()


@pytest.fixture
def others(pair, tmp_path) -> Path:
    """Models that do not belong to ``learned``."""
    new_model(tmp_path / "other", ["completely other words stand here"], seed=3)
    wide = load(pair / "learned").model.config
    wide.num_attention_heads, wide.num_key_value_heads = 1, 1
    shutil.copytree(pair / "learned", tmp_path / "heads")
    for name in ("manifest.json", "plan.json", "result.json", "learned.json"):
        (tmp_path / "heads" / name).unlink(missing_ok=True)
    wide.save_pretrained(tmp_path / "heads")
    return tmp_path


@pytest.mark.parametrize(
    ("how", "error", "words"),
    [
        ({"tau": 0}, PlanError, "tau is 0; accepted: above 0, at most 1"),
        ({"tau": 1.5}, PlanError, "tau is 1.5"),
        ({"metric": "esx"}, PlanError, "esx.*did you mean 'es'"),
        ({"metric": "kl_beside"}, PlanError, "says neither way"),
        ({"tolerance": 0}, PlanError, "tolerance is 0"),
        ({"limit": 0}, PlanError, "limit is 0; accepted: 1 or more"),
        ({"after": "learned"}, PlanError, "before and after are both"),
        ({"after": "nowhere"}, ModelError, "no such folder"),
        ({"tua": 0.9}, PlanError, "tua"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_written(pair, tmp_path, how, error, words):
    given = {"after": "ga", **how}
    with pytest.raises(error, match=words):
        calibrate(pair, tmp_path / "c", **given)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "words"), [("other", "vocab_size|is .* in one and"), ("heads", "num_attention_heads")]
)
def test_models_of_different_shapes_are_refused_in_one_line(pair, others, name, words, capsys):
    places = ("--before", pair / "learned", "--after", others / name, "--retain", pair / "retain.jsonl")
    assert main([*map(str, ("calibrate", *places, "-o", others / "c"))]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert "not of one shape" in said[-1]
    assert pal.__name__ in said[-1]
    assert not (others / "c").exists()
    assert not (others / "c.partial").exists()
    with pytest.raises(ModelError, match=words):
        pal.calibrate(pair / "learned", others / name, pair / "retain.jsonl", output=others / "c")


def test_what_was_forgotten_is_nothing_that_must_stay(pair, tmp_path):
    with pytest.raises(DataError, match="rows of retain were forgotten by .*ga or before it"):
        pal.calibrate(pair / "learned", pair / "ga", pair / "forget.jsonl", output=tmp_path / "c")
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_is_there_is_refused(pair, done, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("mine")
    with pytest.raises(PlanError, match="exists and is no run"):
        calibrate(pair, tmp_path / "mine")
    with pytest.raises(PlanError, match="another plan .*tau"):
        calibrate(pair, done[0], tau=0.5)
    with pytest.raises(PlanError, match="another plan"):
        calibrate(pair, pair / "ga")


def test_rows_that_the_model_was_never_taught_are_fine_unless_it_knows_nothing_of_them(pair, tmp_path):
    stranger = [{"id": "s", "prompt": "Where does Ann live?", "completion": " zz qq xx zz"}]
    with pytest.raises(DataError, match="has es 0 on the rows that must stay"):
        pal.calibrate(pair / "learned", pair / "ga", stranger, output=tmp_path / "c")
    assert list(tmp_path.iterdir()) == []
    pal.calibrate(pair / "learned", pair / "ga", stranger, output=tmp_path / "c", metric="prob")
    assert pal.verify(tmp_path / "c").holds


def test_judging_a_calibration_is_refused(done):
    with pytest.raises(DataError, match="a calibration is not judged"):
        pal.judge(done[0])


def test_as_json(pair, tmp_path, capsys):
    places = ("--before", pair / "learned", "--after", pair / "ga", "--retain", pair / "retain.jsonl")
    assert main([*map(str, ("calibrate", *places, "-o", tmp_path / "c", "--json"))]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["kind"] == "calibrate"
    assert 0 < said["calibration"]["alpha"] < 1


def what_counts(folder: Path) -> dict[str, object]:
    result = json.loads((folder / "result.json").read_text())
    return {
        "files": sorted(path.name for path in folder.iterdir()),
        "model": (folder / "model.safetensors").read_bytes(),
        **{key: result[key] for key in ("scores", "calibration", "plan_digest", "model_digest", "notes")},
    }


def quietly(clinic: Path, output: Path) -> None:
    calibrate(clinic, output)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_death_at_every_kind_of_moment_one_after_the_other(pair, done, tmp_path):
    seen: list[str] = []
    output = tmp_path / "out"
    while (code := run_with_deaths(quietly, pair, output, lambda name, _count: name not in seen)) == DIED:
        seen.append((tmp_path / "died-at").read_text())
        assert not output.exists() or (output / "result.json").is_file()
    assert code == DONE
    assert what_counts(output) == what_counts(done[0])
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("out")] == ["out"]
    kinds = " ".join(seen)
    for place in ("plan.json", "remembered", "mixed-retain", "learned.json", "result.json", "manifest.json"):
        assert place in kinds


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_what_was_asked_is_not_asked_again(pair, done, tmp_path):
    asked: list[int] = []

    def die_later() -> None:
        calibrate(pair, tmp_path / "out", progress=_dying)

    assert in_a_fork(die_later) != DONE
    kept = sorted(path.name for path in (tmp_path / "out.partial" / "remembered").iterdir())
    assert len(kept) == 5
    (tmp_path / "out.partial" / "model.safetensors").write_bytes(b"half of a fi")  # killed while it was written
    stamps = {name: (tmp_path / "out.partial" / "remembered" / name).stat().st_mtime_ns for name in kept}
    calibrate(pair, tmp_path / "out", progress=lambda *_: asked.append(1) or _same(tmp_path, stamps))
    assert what_counts(tmp_path / "out") == what_counts(done[0])


def _dying(_stage: str, asked: int, *_: object) -> None:
    if asked > 4:
        os._exit(DIED)


def _same(tmp_path: Path, stamps: dict[str, int]) -> None:
    for name, stamp in stamps.items():
        assert (tmp_path / "out.partial" / "remembered" / name).stat().st_mtime_ns == stamp
