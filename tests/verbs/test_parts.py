"""Runs of a method that adds parts: what moves, what is kept, what is loaded, stacked, continued and refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.models.parts.conftest import own_parts

import palimpsest as pal
from palimpsest.cli import main
from palimpsest.models import parts
from palimpsest.models.load import load

__all__ = ["own_parts"]
LAYERS = 4  # of the clinic's model
FAST = {"training": {"learning_rate": 1e-2, "max_steps": 4, "batch_size": 4}}
adapter = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")


def nudged(clinic: Path, output: Path, model: Path | None = None, *, method: str = "nudged", **plan):
    return pal.unlearn(
        model or clinic / "model",
        clinic / "forget.jsonl",
        retain=clinic / "retain.jsonl",
        output=output,
        method=method,
        plan={**FAST, **plan},
    )


def logits(model) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=torch.arange(5, 17).reshape(2, 6)).logits


def test_a_run_trains_the_parts_alone_and_saves_them_beside_an_untouched_base(own_parts, clinic, tmp_path):
    result = nudged(clinic, tmp_path / "out")
    assert result.plan["scope"]["kind"] == "parts"
    before, after = load_file(clinic / "model/model.safetensors"), load_file(tmp_path / "out/base/model.safetensors")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not (tmp_path / "out/model.safetensors").exists()
    scores = result.scores
    assert scores["after"]["forget"]["prob"].value < scores["before"]["forget"]["prob"].value
    found = load(tmp_path / "out")
    assert [part.made_by["method"] for part in parts.parts_of(found.model)] == ["nudged"] * LAYERS
    assert found.tokenizer is not None
    assert main(["verify", str(tmp_path / "out")]) == 0


def test_the_reference_is_the_model_without_the_new_parts(own_parts, clinic, tmp_path):
    """A second request: the parts of the first act in the reference too, and stay as they are."""
    nudged(clinic, tmp_path / "one")
    nudged(clinic, tmp_path / "two", tmp_path / "one")
    names = sorted(path.name for path in (tmp_path / "two/parts").iterdir())
    assert names == [f"{number:04}-nudge" for number in range(2 * LAYERS)]
    for name in names[:LAYERS]:
        first, kept = (load_file(tmp_path / run / "parts" / name / "part.safetensors") for run in ("one", "two"))
        assert all(torch.equal(first[key], kept[key]) for key in first)
    one, two = load(tmp_path / "one").model, load(tmp_path / "two").model
    with parts.off(two, parts.parts_of(two)[LAYERS:]):
        assert torch.equal(logits(two), logits(one))


def test_a_part_that_folds_leaves_a_plain_folder(own_parts, clinic, tmp_path):
    nudged(clinic, tmp_path / "out", options={"part": "gain", "inside": ".down_proj"})
    assert (tmp_path / "out/model.safetensors").is_file()
    assert not (tmp_path / "out/parts").exists()
    assert not parts.parts_of(load(tmp_path / "out").model)


@adapter
@pytest.mark.parametrize(
    "scope", [{"kind": "all"}, {"kind": "layers", "names": ["layers.1.*weight"]}, {"kind": "lora"}]
)
def test_another_method_moves_the_base_under_parts_that_stay(scope, own_parts, clinic, tmp_path):
    nudged(clinic, tmp_path / "one")
    nudged(clinic, tmp_path / "two", tmp_path / "one", method="npo", scope=scope)
    for name in ("0000-nudge", "0001-nudge"):
        first, kept = (load_file(tmp_path / run / "parts" / name / "part.safetensors") for run in ("one", "two"))
        assert all(torch.equal(first[key], kept[key]) for key in first)
    assert not torch.equal(logits(load(tmp_path / "two").model), logits(load(tmp_path / "one").model))


@adapter
def test_an_adapter_that_is_kept_stacks_on_parts(own_parts, clinic, tmp_path):
    nudged(clinic, tmp_path / "one")
    nudged(clinic, tmp_path / "two", tmp_path / "one", method="npo", scope={"kind": "lora", "rank": 2, "merge": False})
    assert sorted(p.name for p in (tmp_path / "two/parts").iterdir())[-2:] == ["0003-nudge", "0004-lora"]
    one, two = load(tmp_path / "one").model, load(tmp_path / "two").model
    assert not torch.equal(logits(two), logits(one))
    parts.parts_of(two)[LAYERS].alpha = 0
    assert torch.equal(logits(two), logits(one))


def test_scope_parts_of_a_method_without_is_refused(clinic, tmp_path, capsys):
    with pytest.raises(pal.ModelError, match="scope parts: the method adds no part to the model"):
        nudged(clinic, tmp_path / "out", method="npo", scope={"kind": "parts"})
    assert not (tmp_path / "out").exists()
