"""Models in memory: the same run as from a folder, nothing left on the disk, the caller's module untouched."""

from __future__ import annotations

import tempfile

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

import palimpsest as pal
from palimpsest.errors import ModelError, PlanError
from palimpsest.report.schema import RunResult

FAST = {"training": {"learning_rate": 1e-2, "max_steps": 2, "batch_size": 4}, "measuring": {"metrics": ["ma"]}}


def in_memory(folder):
    return pal.Model.of(AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder))


def forget(clinic, model, **how):
    given = {"retain": clinic / "retain.jsonl", "method": "grad_diff", "plan": FAST, **how}
    return pal.unlearn(model, clinic / "forget.jsonl", **given)


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """The place where temporary folders are made."""
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    return place


def test_a_model_in_memory_gives_what_its_folder_gives_and_nothing_stays(clinic, tmp_path, temporary):
    model = in_memory(clinic / "model")
    before = {name: tensor.clone() for name, tensor in model.module.state_dict().items()}
    model.save(tmp_path / "same")  # a first load and save changes a folder's own words about itself
    of_folder = forget(clinic, tmp_path / "same", output=tmp_path / "out")
    run = forget(clinic, model)
    assert run.sets == of_folder.sets
    assert run.plan["digests"] == of_folder.plan["digests"]
    assert run.plan_digest == of_folder.plan_digest
    assert run.scores == of_folder.scores
    assert run.answers == of_folder.answers
    saved = load_file(tmp_path / "out" / "model.safetensors")
    assert all(torch.equal(run.model.module.state_dict()[name], tensor) for name, tensor in saved.items())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.module.state_dict().items())
    assert not list(temporary.iterdir())


def test_a_run_in_memory_can_be_saved_later_and_goes_on_from_there(clinic, tmp_path, temporary):
    run = forget(clinic, in_memory(clinic / "model"))
    run.save(tmp_path / "later")
    kept = RunResult.load(tmp_path / "later" / "result.json")
    assert kept.scores == run.scores
    assert kept.plan["model"] == "a LlamaForCausalLM in memory"
    for name in ("plan.json", "result.json", "report.html"):
        assert str(temporary) not in (tmp_path / "later" / name).read_text()
    measured = [
        pal.measure(model, clinic / "forget.jsonl", metrics=["ma"]) for model in (run.model, tmp_path / "later")
    ]
    assert measured[0].scores == measured[1].scores
    assert measured[0].scores["ma"].by_id == run.scores["after"]["forget"]["ma"].by_id
    with pytest.raises(PlanError, match="exists"):
        run.save(tmp_path / "later")


def test_a_model_in_memory_with_an_output_says_so_in_its_files(clinic, tmp_path, temporary):
    result = forget(clinic, in_memory(clinic / "model"), output=tmp_path / "out")
    assert result == RunResult.load(tmp_path / "out" / "result.json")
    assert result.plan["model"] == "a LlamaForCausalLM in memory"
    assert "a LlamaForCausalLM in memory" in (tmp_path / "out" / "report.html").read_text()
    again = forget(clinic, in_memory(clinic / "model"), output=tmp_path / "out")
    assert again == result


def test_an_oracle_in_memory(clinic, temporary):
    run = forget(clinic, in_memory(clinic / "model"), oracle=in_memory(clinic / "base"))
    assert run.plan["oracle"] == "a LlamaForCausalLM in memory"
    assert "oracle" in run.scores
    assert not list(temporary.iterdir())


def test_nothing_stays_where_a_run_is_refused(clinic, temporary):
    with pytest.raises(PlanError, match="needs the retain set"):
        forget(clinic, in_memory(clinic / "model"), retain=None)
    assert not list(temporary.iterdir())


def test_what_cannot_be_saved_is_no_model(clinic):
    with pytest.raises(ModelError, match=r"module is a Linear; accepted: what has save_pretrained"):
        pal.Model.of(torch.nn.Linear(2, 2))
    with pytest.raises(ModelError, match="tokenizer is a str"):
        pal.Model.of(in_memory(clinic / "model").module, "words")
