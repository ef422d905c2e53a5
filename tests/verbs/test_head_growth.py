"""Heads that grow: which classes come, in what order, under what names; old rows stay to the bit."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tests.models.small_texts import saved

import palimpsest as pal
from palimpsest.cli import main
from palimpsest.data.read.classes import ClassNames
from palimpsest.data.read.new_classes import NEW_HEAD, Head, head_with, new_classes
from palimpsest.errors import ClassError, DataError, PlanError
from palimpsest.models.grown_head import grow, with_rows
from palimpsest.models.load import load
from palimpsest.models.parts import parts_of
from palimpsest.models.resnet import SmallResNet, resnet_config
from palimpsest.records import Example, Labelled

SHORT = {"training": {"learning_rate": 0.02, "batch_size": 8, "max_steps": 3}}


def rows_of(*labels: int | str) -> list[Example]:
    return [Example(f"r{n}", Labelled("", label)) for n, label in enumerate(labels)]


def head_of(*names: str) -> Head:
    return head_with(NEW_HEAD, names)


@pytest.mark.parametrize(
    ("head", "labels", "expected"),
    [
        (head_of("cat", "dog"), ("fox", "cat", "ant", "fox"), ("fox", "ant")),
        (head_of("cat", "dog"), (1, "fox", 0), ("fox",)),  # numbers are the rows of a head with names
        (Head(3, ClassNames({})), (2, 7, 3, 7), ("7", "3")),  # and names of their own in one without
        (head_of("7", "3"), (3, 5, "7"), ("5",)),
        (NEW_HEAD, (4, 1, 4), ("4", "1")),
        (NEW_HEAD, ("b", "a"), ("b", "a")),
    ],
)
def test_classes_come_in_order_of_first_appearance(head, labels, expected):
    assert new_classes(rows_of(*labels), head) == expected


@pytest.mark.parametrize(
    ("head", "labels", "said"),
    [
        (head_of("cat", "dog"), ("Cat",), "class 'Cat', and another is called 'cat'"),
        (NEW_HEAD, ("red fox", "red  fox"), "another is called 'red fox'"),
        (NEW_HEAD, ("B\xe4r", "Ba\u0308r"), "class 'Ba\\u0308r', and another is called 'B\xe4r'"),
        (NEW_HEAD, ("one", "\uff4fne"), "class '\uff4fne', and another is called 'one'"),
        (NEW_HEAD, ("cat", "cat\u200b"), r"class 'cat\u200b', and another is called 'cat'"),
        (head_of("7", "3"), ("07",), "class '07', and another is called '7'"),
        (head_of("cat", "dog"), (5,), "class 5 of a model that names its classes"),
        (Head(3, ClassNames({})), ("cat",), "class 'cat' for a head whose 3 classes are numbers"),
    ],
)
def test_classes_that_cannot_be_told_apart_are_refused(head, labels, said):
    with pytest.raises(DataError, match=re.escape(said)):
        new_classes(rows_of(*labels), head)


def test_numbers_mean_names_once_the_rows_of_a_head_are_in_another_order():
    from palimpsest.data.read.classes import class_number, number_or_name

    head = head_of("7", "3")
    assert [class_number(label, *head) for label in (7, 3, "3")] == [0, 1, 1]
    assert number_or_name(3, head.names) == 1
    with pytest.raises(ClassError, match="class 0 is not one of the model's; accepted: 7, 3"):
        class_number(0, *head)


def test_old_rows_stay_to_the_bit_and_new_ones_are_zero():
    layer = torch.nn.Linear(4, 3)
    weight, bias = layer.weight.detach().clone(), layer.bias.detach().clone()
    with_rows(layer, 5)
    assert torch.equal(layer.weight[:3], weight)
    assert torch.equal(layer.bias[:3], bias)
    assert not layer.weight[3:].any()
    assert not layer.bias[3:].any()
    with_rows(layer, 2, fresh=True)
    assert layer.weight.shape == (2, 4)
    assert not layer.weight.any()


def put_npz(path: Path, labels: list[int], *classes: int, stem: str = "") -> Path:
    """Rows of some labels; of ``classes`` alone, where any are named."""
    rng = np.random.default_rng(len(labels))
    images = rng.integers(0, 255, (len(labels), 8, 8, 3), dtype=np.uint8)
    names = np.array([f"{stem or path.stem}-{n}" for n in range(len(labels))])
    kept = np.isin(labels, classes) if classes else np.ones(len(labels), dtype=bool)
    np.savez(path, x=images[kept], y=np.array(labels)[kept], name=names[kept])
    return path


@pytest.fixture(scope="module")
def zoo(tmp_path_factory) -> Path:
    """start/ of classes 0 and 1; grown/, which learned 7 and 5 as well; old.npz and new.npz."""
    folder = tmp_path_factory.mktemp("zoo")
    torch.manual_seed(0)
    SmallResNet(resnet_config("resnet20", 2, widths=(4, 4, 4), image_size=8)).save_pretrained(folder / "start")
    put_npz(folder / "old.npz", [0, 1] * 4)
    put_npz(folder / "new.npz", [7, 5, 7, 5, 1, 7, 5])
    put_npz(folder / "one.npz", [7, 5, 7, 5, 1, 7, 5], 1, stem="new")
    put_npz(folder / "rest.npz", [7, 5, 7, 5, 1, 7, 5], 7, 5, stem="new")
    pal.learn(folder / "start", folder / "new.npz", output=folder / "grown", plan=SHORT, head="grow")
    return folder


def test_a_run_learns_classes_that_the_head_did_not_have(zoo):
    config = json.loads((zoo / "grown" / "config.json").read_text())
    assert config["id2label"] == {"0": "0", "1": "1", "2": "7", "3": "5"}
    found = load(zoo / "grown")
    assert found.num_outputs == 4
    assert found.class_names.by_name
    assert load_file(zoo / "grown" / "model.safetensors")["linear.weight"].shape == (4, 4)
    plan = json.loads((zoo / "grown" / "plan.json").read_text())
    assert plan["head"] == {"kind": "grow", "added": ["7", "5"]}
    result = pal.report.schema.RunResult.load(zoo / "grown" / "result.json")
    assert "The head grew by 2 classes: 7, 5." in result.notes


def test_the_same_command_again_is_the_same_run(zoo, tmp_path):
    """The names of the classes that come are known only once the rows were read; the plan that lies there has them."""
    again = pal.learn(zoo / "start", zoo / "new.npz", output=zoo / "grown", plan=SHORT, head="grow")
    assert again.created == json.loads((zoo / "grown" / "result.json").read_text())["created"]
    whole = zoo / "grown"
    for name in ("plan.json", "metrics.jsonl"):  # all that is left of one that died early
        (tmp_path / "out.partial").mkdir(exist_ok=True)
        (tmp_path / "out.partial" / name).write_bytes((whole / name).read_bytes() if name == "plan.json" else b"")
    pal.learn(zoo / "start", zoo / "new.npz", output=tmp_path / "out", plan=SHORT, head="grow")
    assert load_file(tmp_path / "out" / "model.safetensors")["linear.weight"].equal(
        load_file(whole / "model.safetensors")["linear.weight"]
    )
    with pytest.raises(PlanError, match="holds the run of another plan .it differs in head"):
        pal.learn(zoo / "start", zoo / "new.npz", output=zoo / "grown", plan=SHORT, head="new")


def test_what_grew_is_unlearned_and_held_against_a_base_that_did_not(zoo, tmp_path):
    """The base has two classes, the version four; both are asked about all of them."""
    result = pal.unlearn(
        zoo / "grown",
        zoo / "new.npz",
        retain=zoo / "old.npz",
        base=zoo / "start",
        method="retrain",
        output=tmp_path / "out",
        plan=SHORT,
    )
    assert load(tmp_path / "out").num_outputs == 4
    assert result.plan["method"] == "retrain"


@pytest.mark.parametrize(
    ("head", "method", "plan"), [("grow", "salun", SHORT), ("new", "salun", SHORT), ("grow", "ease", {})]
)
def test_an_oracle_is_made_from_a_base_without_the_classes(zoo, tmp_path, head, method, plan):
    taught = "finetune" if method == "salun" else method
    pal.learn(zoo / "start", zoo / "new.npz", output=tmp_path / "taught", plan=SHORT, head=head, method=taught)
    sets = {"retain": zoo / "rest.npz", "base": zoo / "start", "make_oracle": True}
    result = pal.unlearn(tmp_path / "taught", zoo / "one.npz", method=method, output=tmp_path / "o", plan=plan, **sets)
    assert load(result.plan["oracle"]).num_outputs == {"grow": 4, "new": 3}[head]


def test_classes_are_told_by_name_after_growth(zoo, tmp_path):
    arguments = ["unlearn", "--model", zoo / "grown", "--data", zoo / "new.npz", "--forget-class", "7"]
    plan = ["--method", "gradient_ascent", "--lr", "0.001", "--max-steps", "1", "--output", tmp_path / "out"]
    assert main([*map(str, arguments), *map(str, plan)]) in (0, 3)
    split = json.loads((tmp_path / "out" / "result.json").read_text())["sets"]
    assert (split["forget"]["n"], split["retain"]["n"]) == (3, 4)


def test_a_run_that_finds_its_rate_learns_new_classes_too(zoo, tmp_path):
    plan = {"training": {"batch_size": 8, "max_steps": 2}, "control": {"kind": "auto"}}
    pal.learn(zoo / "start", zoo / "new.npz", output=tmp_path / "out", plan=plan, head="grow")
    assert load(tmp_path / "out").num_outputs == 4


@pytest.mark.parametrize("method", ["ease", "aper", "mos"])
def test_methods_whose_stages_depend_on_their_parts_take_training_options(zoo, tmp_path, method):
    """And where the run ends before an alignment could begin, the classes are told by their means."""
    out = tmp_path / "out"
    pal.learn(zoo / "start", zoo / "new.npz", output=out, method=method, plan=SHORT, head="grow")
    present_C = next(part.present_C for part in parts_of(load(out).model) if hasattr(part, "present_C"))
    assert present_C.tolist() == [False, True, True, True]
    pal.unlearn(out, zoo / "one.npz", retain=zoo / "rest.npz", output=tmp_path / "gone", method=method)


def test_classes_that_a_head_of_means_does_not_know_are_named(zoo, tmp_path):
    """A learner that counts rows knows nothing of the classes that the old head had; the run says which."""
    counted = pal.learn(zoo / "start", zoo / "new.npz", output=tmp_path / "out", method="simple_cil", head="grow")
    (note,) = [note for note in counted.notes if "never predicted any more" in note]
    assert note.startswith("Class 0: ")
    whole = {"replay": zoo / "old.npz", "method": "simple_cil", "head": "grow"}
    both = pal.learn(zoo / "start", zoo / "new.npz", output=tmp_path / "both", **whole)
    assert not [note for note in both.notes if "never predicted" in note]
    gone = pal.unlearn(tmp_path / "out", zoo / "one.npz", output=tmp_path / "gone", method="simple_cil")
    assert not [note for note in gone.notes if "never predicted" in note]
    with pytest.raises(PlanError, match=r"part 'class_means' by simple_cil answers in its place"):
        pal.unlearn(tmp_path / "out", zoo / "one.npz", output=tmp_path / "other", method="lra_npp")


def test_a_head_cannot_grow_inside_the_module_of_the_caller(zoo):
    model = pal.Model.of(SmallResNet.from_pretrained(zoo / "start"))
    with pytest.raises(PlanError, match="in_place: the head of the run gets other rows"):
        pal.learn(model, zoo / "new.npz", plan=SHORT, head="grow", in_place=True)
    assert load_file(zoo / "start" / "model.safetensors")["linear.weight"].equal(model.module.linear.weight)
    assert pal.learn(model, zoo / "new.npz", plan=SHORT, head="grow").model.module.config.num_labels == 4


def test_a_new_head_knows_only_what_is_learned(zoo, tmp_path):
    pal.learn(zoo / "start", zoo / "new.npz", output=tmp_path / "out", plan=SHORT, head="new")
    assert load(tmp_path / "out").class_names == {"7": 0, "5": 1, "1": 2}


def test_growing_by_nothing_is_the_run_without(zoo, tmp_path):
    one = pal.learn(zoo / "start", zoo / "old.npz", output=tmp_path / "one", plan=SHORT, head="grow")
    other = pal.learn(zoo / "start", zoo / "old.npz", output=tmp_path / "other", plan=SHORT)
    assert one.plan_digest == other.plan_digest


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({}, "or --head grow, to add the classes of the rows to learn"),
        ({"head": "wide"}, "Input should be 'grow' or 'new'"),
        ({"head": "new", "plan": {**SHORT, "restore": 0.9}}, "restore gives back what unlearning took"),
    ],
)
def test_what_cannot_grow_is_refused_before_anything_is_written(zoo, tmp_path, more, said):
    with pytest.raises((DataError, PlanError), match=said):
        pal.learn(zoo / "start", zoo / "new.npz", output=tmp_path / "out", **{"plan": SHORT, **more})
    assert not list(tmp_path.iterdir())


def test_texts_with_labels_grow_alike(tmp_path):
    saved("bert", tmp_path / "bert")
    rows = [
        {"id": f"t{n}", "text": f"ann sings the {word}", "label": label}
        for n, (word, label) in enumerate([("city", "sport"), ("song", "war"), ("farm", "sport")])
    ]
    (tmp_path / "new.jsonl").write_text("\n".join(map(json.dumps, rows)))
    pal.learn(tmp_path / "bert", tmp_path / "new.jsonl", output=tmp_path / "out", plan=SHORT, head="new")
    assert load(tmp_path / "out").class_names == {"sport": 0, "war": 1}


def test_a_model_of_texts_has_no_head_to_grow(tiny_llama, tmp_path):
    tiny_llama.save_pretrained(tmp_path / "lm")
    (tmp_path / "new.jsonl").write_text('{"id": "a", "text": "x"}\n')
    with pytest.raises(PlanError, match="which has no classes; leave --head out"):
        pal.learn(tmp_path / "lm", tmp_path / "new.jsonl", output=tmp_path / "out", plan=SHORT, head="grow")


def test_a_model_whose_outputs_leave_two_layers_is_refused(tmp_path):
    from transformers import DeiTConfig, DeiTForImageClassificationWithTeacher

    config = DeiTConfig(
        hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, image_size=8, patch_size=4
    )
    config.num_labels, config.image_mean, config.image_std = 2, [0.5] * 3, [0.5] * 3
    DeiTForImageClassificationWithTeacher(config).save_pretrained(tmp_path / "two")
    from palimpsest.errors import ModelError

    with pytest.raises(ModelError, match="its outputs leave more than one layer"):
        grow(load(tmp_path / "two"), ["2"])
