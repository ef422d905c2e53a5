"""A run that changes nothing ends in an error, but where it says why nothing had to change."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import palimpsest as pal
from palimpsest.cli import main
from palimpsest.engine import train
from palimpsest.errors import FrozenError
from palimpsest.loop.sampler import IdStream
from palimpsest.loop.state import State
from palimpsest.report.schema import RunResult

adapter = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")

EDIT = '''"""Doubles the parameters that carry a name."""

import torch

from palimpsest.contract import Config, Method


class DoublingConfig(Config):
    name: str = "nothing of this name"


class Doubling(Method):
    Config = DoublingConfig

    def prepare(self, model, sets):
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if self.config.name in name:
                    parameter.mul_(2)
        return super().prepare(model, sets)

    def phases(self, step, planned):
        return ()


METHOD = Doubling
'''


@pytest.fixture
def doubling(tmp_path, monkeypatch) -> Iterator[None]:
    folder = tmp_path / "methods"
    folder.mkdir()
    (folder / "doubling.py").write_text(EDIT)
    monkeypatch.setenv("PALIMPSEST_METHODS", str(folder))
    yield
    sys.modules.pop("palimpsest.methods.doubling", None)


def edit(clinic: Path, output: Path, method: str = "doubling", **plan: object) -> RunResult:
    return pal.unlearn(clinic / "model", clinic / "forget.jsonl", output=output, method=method, plan=plan)


def test_an_edit_that_edits_nothing_is_an_error(clinic, tmp_path, doubling, capsys):
    files = ["--model", str(clinic / "model"), "--forget", str(clinic / "forget.jsonl"), "-o", str(tmp_path / "out")]
    assert main(["unlearn", *files, "--method", "doubling"]) == 1
    assert "the run changed nothing: every weight is as it was before" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert "the run changed nothing" in (tmp_path / "out.partial" / "rejected.txt").read_text()


def test_an_edit_of_one_tensor_is_a_run(clinic, tmp_path, doubling):
    edit(clinic, tmp_path / "out", options={"name": "model.norm.weight"})
    before, after = (load_file(f / "model.safetensors") for f in (clinic / "model", tmp_path / "out"))
    assert {name for name in before if not torch.equal(before[name], after[name])} == {"model.norm.weight"}


def test_an_edit_outside_of_the_scope_is_an_error(clinic, tmp_path, doubling):
    scope = {"kind": "layers", "names": ["mlp"]}
    with pytest.raises(FrozenError, match=r"1 frozen tensors moved, e\.g\. model\.norm\.weight"):
        edit(clinic, tmp_path / "out", options={"name": "model.norm.weight"}, scope=scope)


@adapter
def test_wrapping_for_lora_is_no_change(clinic, tmp_path, doubling):
    """B of an adapter starts at zero: doubled it is what it was."""
    with pytest.raises(FrozenError, match="the run changed nothing"):
        edit(clinic, tmp_path / "out", options={"name": "lora_B"}, scope={"kind": "lora", "rank": 2})


@adapter
@pytest.mark.parametrize("merge", [True, False])
def test_noise_on_an_adapter_is_a_change(clinic, tmp_path, merge):
    edit(clinic, tmp_path / "out", "random_edit", scope={"kind": "lora", "rank": 2, "merge": merge})


def test_noise_too_small_for_any_weight_is_an_error(clinic, tmp_path):
    with pytest.raises(FrozenError, match="the edit of RandomEdit changed nothing"):
        edit(clinic, tmp_path / "out", "random_edit", options={"norm": 1e-46})


def test_an_edit_that_died_before_it_was_saved_is_made_once(clinic, tmp_path, monkeypatch):
    edit(clinic, tmp_path / "whole", "random_edit")

    def die(*given, **how):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(train, "load_saved", die)
        with pytest.raises(KeyboardInterrupt):
            edit(clinic, tmp_path / "cut", "random_edit")
    edit(clinic, tmp_path / "cut", "random_edit")
    whole, cut = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "cut"))
    assert whole == cut


def test_a_run_with_nothing_to_do_says_so_and_ends(clinic, tmp_path):
    """Every example passes at once: no step, the same model, and no error."""
    plan = {"refine": {"ma": 1.0, "el": 1.0}, "training": {"max_steps": 3, "batch_size": 4}}
    result = edit(clinic, tmp_path / "out", "gradient_ascent", **plan)
    assert result.stopped == "all examples pass"
    before, after = (load_file(f / "model.safetensors") for f in (clinic / "model", tmp_path / "out"))
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("why", [None, "it was not known"])
def test_a_run_may_say_why_nothing_had_to_change(clinic, tmp_path, doubling, monkeypatch, why):
    def run(job):
        return replace(ended(job), unchanged=why)

    ended = train.run
    monkeypatch.setattr(train, "run", run)
    if why is None:
        with pytest.raises(FrozenError):
            edit(clinic, tmp_path / "out")
    else:
        assert edit(clinic, tmp_path / "out").stopped == "edited without steps"


def test_the_reason_outlives_the_process_and_older_checkpoints_have_none():
    beginning = State(IdStream("forget", ("a",), 0), {})
    said = State(beginning.anchor, {}, unchanged="all examples pass").to_json(beginning)
    assert State.from_json(said, beginning).unchanged == "all examples pass"
    older = {key: value for key, value in said.items() if key != "unchanged"}
    assert State.from_json(older, beginning).unchanged is None
