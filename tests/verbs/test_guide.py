"""Nothing that a controlled run goes by comes from a forget row or from an oracle that was not given."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.verbs.conftest import write_rows

import palimpsest as pal
from palimpsest.control.level import Level
from palimpsest.data.read.examples import read_examples
from palimpsest.engine.guide import level_of
from palimpsest.engine.inputs import encode_sets
from palimpsest.engine.plan import make_plan
from palimpsest.models import load as models
from palimpsest.models.load import Loaded

SHORT = {
    "training": {"batch_size": 4},
    "measuring": {"metrics": ["prob"]},
    "control": {"budget": 4, "cooling": 1, "tolerance": 1e-6},  # tolerance: a random model is never at a level
}


def files_of(clinic: Path, *names: str) -> dict[str, str]:
    """Of these sets; general text is rehearsed, too."""
    return {name: str(clinic / f"{'general' if name == 'replay' else name}.jsonl") for name in names}


def level(
    clinic: Path, files: dict[str, str], loaded: Loaded, source: str = "auto", oracle: str | None = None
) -> Level:
    """The level of a request, from its files."""
    fields = {"kind": "unlearn", "method": "npo", "model": str(clinic / "model"), "files": files, "oracle": oracle}
    plan = make_plan(fields, {"control": {"level": source}})
    return level_of(
        plan,
        loaded,
        encode_sets({name: read_examples(path) for name, path in plan.files.items()}, loaded, plan.encoding),
    )


@pytest.fixture(scope="module")
def loaded(clinic) -> Loaded:
    return models.load(str(clinic / "model"))


@pytest.fixture
def changed(clinic, tmp_path) -> str:
    """The forget set with another answer in its first row."""
    rows = [json.loads(line) for line in (clinic / "forget.jsonl").read_text().splitlines()]
    rows[0]["completion"] = " Nowhere at all, said the quiet visit on Hill Road."
    return str(write_rows(tmp_path / "forget.jsonl", rows))


@pytest.mark.parametrize("source", [("retain",), ("retain", "replay"), ("retain", "general")])
def test_a_forget_row_changes_its_own_level_and_no_other(clinic, loaded, changed, source):
    files = files_of(clinic, "forget", *source)
    before, after = level(clinic, files, loaded), level(clinic, {**files, "forget": changed}, loaded)
    assert before.source == "shadow"
    assert before.reading.rows["p0"] != after.reading.rows["p0"]
    assert before.correction == after.correction
    others = [i for i in before.reading.rows if i != "p0"]
    assert before.reading.of(others) == after.reading.of(others)


def test_a_holdout_moves_all_levels_alike(clinic, loaded, changed):
    """It is compared with a shadow of all that was learned; what a shadow of what stays reads of a row is as it was."""
    files = files_of(clinic, "forget", "retain", "holdout")
    before, after = level(clinic, files, loaded), level(clinic, {**files, "forget": changed}, loaded)
    for i in ("p1", "p2", "p3"):
        old, new = before.reading.rows[i], after.reading.rows[i]
        assert (old.nats, old.es, old.length) == (new.nats, new.es, new.length)
        assert new.ma - old.ma == pytest.approx(after.correction - before.correction)


def test_a_retain_row_changes_the_level(clinic, loaded, tmp_path):
    """What stays is what the level is made of; else the tests above would show nothing."""
    files = files_of(clinic, "forget", "retain")
    rows = (clinic / "retain.jsonl").read_text().splitlines()
    fewer = tmp_path / "retain.jsonl"
    fewer.write_text("\n".join(rows[1:]) + "\n")
    other = level(clinic, {**files, "retain": str(fewer)}, loaded)
    assert level(clinic, files, loaded).reading != other.reading


@pytest.fixture
def opened(monkeypatch) -> list[str]:
    """Sources of all models that are loaded, by whomever."""
    sources: list[str] = []
    original = models.load

    def load(source: Any, *arguments: Any, **options: Any) -> Loaded:
        sources.append(str(source))
        return original(source, *arguments, **options)

    for module in list(sys.modules.values()):
        if getattr(module, "__name__", "").startswith("palimpsest") and getattr(module, "load", None) is original:
            monkeypatch.setattr(module, "load", load)
    return sources


def test_the_level_of_a_shadow_opens_no_model(clinic, loaded, opened):
    files, oracle = files_of(clinic, "forget", "retain"), str(clinic / "base")
    assert level(clinic, files, loaded) == level(clinic, files, loaded, "shadow", oracle)
    assert opened == []
    assert level(clinic, files, loaded, oracle=oracle).source == "oracle"
    assert opened == [oracle]


def unlearn(clinic: Path, output: Path, **given: Any) -> pal.RunResult:
    plan = {**SHORT, "control": {**SHORT["control"], **given.pop("control", {})}}
    files = {name: Path(path) for name, path in files_of(clinic, "retain", "holdout", "replay").items()}
    return pal.unlearn(clinic / "model", clinic / "forget.jsonl", output=output, plan=plan, **files, **given)


@pytest.mark.slow
def test_a_run_opens_no_model_that_it_was_not_given(clinic, tmp_path, opened):
    """A base, and whatever else lies beside the model, stays closed."""
    unlearn(clinic, tmp_path / "out")
    assert set(opened) <= {str(clinic / "model"), str(tmp_path / "out.partial")}
    assert str(clinic / "model") in opened


@pytest.mark.slow
def test_an_oracle_that_only_measures_changes_no_bit(clinic, tmp_path):
    plan = {"training": {"learning_rate": 1e-3, "max_steps": 2, "batch_size": 4}, "measuring": {"metrics": ["prob"]}}
    pal.learn(clinic / "model", clinic / "retain.jsonl", output=tmp_path / "oracle", plan=plan)
    without = unlearn(clinic, tmp_path / "without")
    beside = unlearn(clinic, tmp_path / "beside", oracle=tmp_path / "oracle", control={"level": "shadow"})
    assert beside.level == without.level
    assert beside.level is not None
    assert beside.level.source == "shadow"
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("without", "beside")]
    assert weights[0] == weights[1]
    assert weights[0] != (clinic / "model" / "model.safetensors").read_bytes()
    assert "oracle" in beside.scores
