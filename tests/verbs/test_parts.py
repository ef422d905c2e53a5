"""Runs of a method that adds parts: what moves, what is kept, what is loaded, stacked, continued and refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.models.parts.conftest import own_parts
from tests.shallow import LAYERS

import palimpsest as pal
from palimpsest.cli import main
from palimpsest.companions.learned import read_record
from palimpsest.models import parts
from palimpsest.models.load import load

__all__ = ["own_parts"]
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
    assert sorted(p.name for p in (tmp_path / "two/parts").iterdir())[-2:] == ["0001-nudge", "0002-lora"]
    one, two = load(tmp_path / "one").model, load(tmp_path / "two").model
    assert not torch.equal(logits(two), logits(one))
    parts.parts_of(two)[LAYERS].alpha = 0
    assert torch.equal(logits(two), logits(one))


@adapter
def test_an_unlearner_may_move_the_parts_of_earlier_runs_and_nothing_else(own_parts, clinic, tmp_path):
    nudged(clinic, tmp_path / "one")
    inner = {"kind": "layers", "names": ["palimpsest_parts"]}
    nudged(clinic, tmp_path / "two", tmp_path / "one", method="npo", scope=inner)
    first, second = (load_file(tmp_path / run / "base/model.safetensors") for run in ("one", "two"))
    assert all(torch.equal(first[name], second[name]) for name in first)
    for place in sorted((tmp_path / "one" / "parts").iterdir()):
        before, after = (
            load_file(tmp_path / run / "parts" / place.name / "part.safetensors") for run in ("one", "two")
        )
        assert any(not torch.equal(before[name], after[name]) for name in before)
    with pytest.raises(pal.PlanError, match=r"scope.kind=layers with scope.names=\[palimpsest_parts\]"):
        nudged(clinic, tmp_path / "three", tmp_path / "one", method="npo", scope={"kind": "parts"})


def test_scope_parts_of_a_method_without_is_refused(clinic, tmp_path, capsys):
    with pytest.raises(pal.PlanError, match="scope.kind = parts: method 'npo' adds no part to the model"):
        nudged(clinic, tmp_path / "out", method="npo", scope={"kind": "parts"})
    assert not (tmp_path / "out").exists()


def test_the_list_says_kind_place_size_and_who_made_it(own_parts, clinic, tmp_path, capsys):
    nudged(clinic, tmp_path / "one")
    rows = pal.parts(tmp_path / "one")
    assert [(row.kind, row.place, row.tensors, row.alpha, row.method) for row in rows] == [
        ("nudge", f"model.layers.{i}.mlp", 4, 1.0, "nudged") for i in range(LAYERS)
    ]
    digest = json.loads((tmp_path / "one/plan.json").read_text())["digest"]
    assert {row.run for row in rows} == {digest[:16]}
    assert main(["parts", str(tmp_path / "one")]) == 0
    shown = capsys.readouterr().out
    assert f"one: {LAYERS} beside the weights, oldest first" in shown
    assert "    0  nudge  at model.layers.0.mlp  4 tensors, 724 numbers  alpha 1  by nudged, run " in shown
    assert main(["parts", str(clinic / "model")]) == 0
    assert "plain weights, no parts" in capsys.readouterr().out


def test_removed_and_scaled_parts_make_a_new_version(own_parts, clinic, tmp_path):
    nudged(clinic, tmp_path / "first")
    nudged(clinic, tmp_path / "one", tmp_path / "first")
    pal.parts(tmp_path / "one", remove=f"1-{2 * LAYERS - 1}", alpha={0: 0.5}, output=tmp_path / "half")
    rows = pal.parts(tmp_path / "half")
    assert [(row.number, row.kind, row.place, row.alpha) for row in rows] == [(0, "nudge", "model.layers.0.mlp", 0.5)]
    whole, half = load(tmp_path / "one").model, load(tmp_path / "half").model
    first, *others = parts.parts_of(whole)
    first.alpha = 0.5
    with parts.off(whole, others):
        assert torch.equal(logits(half), logits(whole))
    assert main(["verify", str(tmp_path / "half")]) == 0
    pal.parts(tmp_path / "one", remove=["all"], output=tmp_path / "none")
    assert torch.equal(logits(load(tmp_path / "none").model), logits(load(clinic / "model").model))
    assert (tmp_path / "none/model.safetensors").is_file()


def test_what_a_removed_part_made_forgotten_counts_as_known_again(own_parts, clinic, tmp_path):
    nudged(clinic, tmp_path / "one")
    before = read_record(tmp_path / "one")
    assert len(before.forgotten) == 4
    pal.parts(tmp_path / "one", remove="all", output=tmp_path / "none")
    after = read_record(tmp_path / "none")
    assert not after.forgotten
    assert after.learned >= before.forgotten
    assert after.elsewhere


@adapter
def test_an_adapter_folder_is_a_list_of_one_which_folds_scales_and_goes(clinic, tmp_path):
    lora = {"kind": "lora", "rank": 2, "merge": False}
    nudged(clinic, tmp_path / "one", method="npo", scope=lora)
    assert (tmp_path / "one/adapter_config.json").is_file()  # other tools read it as ever
    (row,) = pal.parts(tmp_path / "one")
    assert (row.kind, row.tensors, len(row.places)) == ("lora", 2 * 7 * LAYERS, 7 * LAYERS)
    merged = logits(load(tmp_path / "one").model)
    kept = load(tmp_path / "one", beside=True).model
    torch.testing.assert_close(logits(kept), merged, rtol=0, atol=1e-4)
    assert torch.equal(logits(load(tmp_path / "one", parts=False).model), logits(load(clinic / "model").model))
    pal.parts(tmp_path / "one", remove="0", output=tmp_path / "gone")
    assert torch.equal(logits(load(tmp_path / "gone").model), logits(load(clinic / "model").model))
    pal.parts(tmp_path / "one", alpha={"0": -1}, output=tmp_path / "negated")
    (negated,) = pal.parts(tmp_path / "negated")
    assert (negated.kind, negated.alpha) == ("lora", -1)
    pal.export(tmp_path / "negated", tmp_path / "plain")
    torch.testing.assert_close(
        logits(load(tmp_path / "plain").model), logits(load(tmp_path / "negated").model), rtol=0, atol=1e-4
    )
    assert pal.parts(tmp_path / "plain") == ()


def test_export_names_the_part_that_does_not_fold(own_parts, clinic, tmp_path, capsys):
    nudged(clinic, tmp_path / "one")
    assert main(["export", str(tmp_path / "one"), "--output", str(tmp_path / "plain")]) == 2
    said = capsys.readouterr().err
    assert "part 0 (nudge at model.layers.0.mlp) does not fold into plain weights" in said
    assert said.count("\n") == 1
    assert not (tmp_path / "plain").exists()


REFUSED = {
    "no output": (["--remove", "0"], "give --output NEW"),
    "nothing to do": (["--output", "NEW"], "give --output NEW with --remove N, --alpha N=A or --undo N=R"),
    "not there": (["--remove", "9", "--output", "NEW"], "part 9 is not there; accepted: 0 to 1"),
    "half there": (["--remove", "1-9", "--output", "NEW"], "part 1-9 is not there"),
    "backwards": (["--remove", "2-1", "--output", "NEW"], "part 2-1 is not there"),
    "no number": (["--remove", "x", "--output", "NEW"], "part 'x'; accepted: the number of a part"),
    "no alpha": (["--alpha", "0", "--output", "NEW"], "--alpha '0'; accepted: N=A"),
    "no factor": (["--alpha", "0=big", "--output", "NEW"], "--alpha '0=big'; accepted: N=A"),
    "infinite": (["--alpha", "0=inf", "--output", "NEW"], "alpha of part 0 is 'inf'"),
    "both": (["--alpha", "0=1", "--remove", "0", "--output", "NEW"], "part 0 is to be removed and to have an alpha"),
    "in the way": (["--remove", "0", "--output", "one"], "exists; give a folder that does not exist"),
}


def test_what_makes_no_sense_is_one_line_and_writes_nothing(own_parts, clinic, tmp_path, capsys, monkeypatch):
    nudged(clinic, tmp_path / "one")
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    for how, (arguments, words) in REFUSED.items():
        assert main(["parts", "one", *arguments]) == 2, how
        said = capsys.readouterr().err
        assert words in said, how
        assert said.count("\n") == 1, how
    assert main(["parts", "nowhere"]) == 2
    assert sorted(p.name for p in tmp_path.iterdir() if p.name != "own") == ["one"]


def test_a_model_in_memory_is_no_folder_of_a_version(tmp_path):
    held = pal.Model.of(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 2)), num_outputs=2, image_size=2)
    for verb in (pal.parts, lambda model: pal.export(model, output=tmp_path / "plain")):
        with pytest.raises(pal.UsageError, match="model is a Model; give the path of a folder or file"):
            verb(held)
