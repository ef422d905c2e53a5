"""What learners of classes refuse, and say, as a user runs them: in one line, before anything is written."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file
from tests.methods.small_classes import small_classifier
from tests.models.test_resnet import tiny
from tests.verbs.test_head_growth import put_npz

import palimpsest as pal
from palimpsest.cli import main
from palimpsest.companions import companion_place
from palimpsest.companions.owner import write_owner
from palimpsest.engine import execute, stages
from palimpsest.errors import DataError, ModelError, PlanError
from palimpsest.models.parts import attach
from palimpsest.models.parts.prompt_pool import PromptPool
from palimpsest.models.resnet import SmallResNet, resnet_config
from palimpsest.models.sources import source_digest


@pytest.fixture(scope="module")
def counted(tmp_path_factory) -> Path:
    """start/, of three classes; all.npz and two.npz; means/ and fewer/, which learned them with simple_cil."""
    folder = tmp_path_factory.mktemp("counted")
    tiny().save_pretrained(folder / "start")
    put_npz(folder / "all.npz", [0, 1, 2] * 3)
    put_npz(folder / "two.npz", [0, 1, 2] * 3, 0, 1, stem="all")
    pal.learn(folder / "start", folder / "all.npz", output=folder / "means", method="simple_cil")
    pal.learn(folder / "start", folder / "two.npz", output=folder / "fewer", method="simple_cil")
    return folder


@pytest.fixture
def unmeasured(monkeypatch):
    """No run gets as far as measuring."""
    monkeypatch.setattr(execute, "measure_column", lambda *_: pytest.fail("the model was measured first"))


def refused(capsys, *arguments: object) -> str:
    """What a command that was used wrongly says, in its last line."""
    assert main([str(one) for one in arguments]) == 2
    return capsys.readouterr().err.strip().splitlines()[-1]


def test_a_model_that_is_not_there_is_not_called_a_causal_lm(counted, tmp_path, capsys):
    said = refused(capsys, "unlearn", "--model", tmp_path / "no", "--forget", counted / "two.npz", "--method", "ease",
                   "--output", tmp_path / "out")  # fmt: skip
    assert "no such folder" in said


def test_an_image_model_without_a_head_is_not_called_a_causal_lm(counted, tmp_path, capsys):
    (tmp_path / "vit").mkdir()
    (tmp_path / "vit" / "config.json").write_text('{"model_type": "vit", "architectures": ["ViTModel"]}')
    shutil.copy(counted / "start" / "model.safetensors", tmp_path / "vit")
    given = ("--model", tmp_path / "vit", "--output", tmp_path / "out")
    for words in (("unlearn", "--forget", "--method", "ease"), ("learn", "--data", "--head", "grow")):
        said = refused(capsys, words[0], words[1], counted / "two.npz", *words[2:], *given)
        assert "an image model (vit, ViTModel) that is no classifier" in said
    assert {path.name for path in tmp_path.iterdir()} == {"vit"}


def test_the_statistics_of_another_version_on_the_same_backbone_are_refused(counted, tmp_path, unmeasured):
    shutil.copytree(counted / "means", tmp_path / "mixed")
    shutil.rmtree(tmp_path / "mixed" / "companion")
    shutil.copytree(counted / "fewer" / "companion", tmp_path / "mixed" / "companion")
    with pytest.raises(ModelError, match="class_statistics beside .*mixed are of another version than the model"):
        pal.unlearn(tmp_path / "mixed", counted / "two.npz", output=tmp_path / "out", method="simple_cil")
    assert {path.name for path in tmp_path.iterdir()} == {"mixed"}


@pytest.mark.parametrize("method", ["fecam", "ranpac"])
def test_statistics_that_another_method_counted_are_refused_before_anything_is_measured(
    counted, tmp_path, unmeasured, method
):
    more = put_npz(tmp_path / "more.npz", [4, 5] * 2)
    with pytest.raises(
        ModelError, match=f"counted by another method, or with other options, than this run's .{method}"
    ):
        pal.learn(counted / "means", more, output=tmp_path / "out", method=method, head="grow")
    assert [*tmp_path.iterdir()] == [more]


def test_statistics_of_another_backbone_are_refused_before_anything_is_measured(counted, tmp_path, unmeasured):
    """The record's own mark of the backbone, where the folder's mark of the version was made to fit."""
    shutil.copytree(counted / "means", tmp_path / "other")
    weights = tmp_path / "other" / "base" / "model.safetensors"
    tensors = load_file(weights)
    save_file({**tensors, "conv1.weight": tensors["conv1.weight"] + 1}, weights, metadata={"format": "pt"})
    (tmp_path / "other" / "manifest.json").unlink()
    write_owner(companion_place("class_statistics", tmp_path / "other"), source_digest(tmp_path / "other"))
    more = put_npz(tmp_path / "more.npz", [4, 5] * 2)
    with pytest.raises(ModelError, match="class statistics beside the model are of another backbone"):
        pal.learn(tmp_path / "other", more, output=tmp_path / "out", method="simple_cil", head="grow")


@pytest.mark.parametrize(
    ("method", "options", "said"),
    [
        ("simple_cil", ("--lr", "0.5"), "training.learning_rate: method 'simple_cil' edits the weights at once"),
        ("aper", ("--lr", "0.5"), "training.learning_rate: method 'aper' edits the weights at once"),
        ("ease", ("--max-steps", "3"), "training.max_steps: method 'ease' edits the weights at once"),
        ("icarl", ("--epochs", "2"), "training.num_train_epochs: method 'icarl' edits the weights at once"),
        ("mos", ("--lr", "0.5"), "training.learning_rate: method 'mos' takes the steps of its stage 'align' by an op"),
    ],
)
def test_a_rate_for_a_run_that_takes_no_step_by_it_is_refused(counted, tmp_path, capsys, method, options, said):
    given = ("--model", counted / "means", "--forget", counted / "two.npz", "--output", tmp_path / "out")
    assert said in refused(capsys, "unlearn", *given, "--method", method, *options)
    assert not [*tmp_path.iterdir()]


def test_a_rate_that_only_the_model_shows_to_be_of_no_use_is_noted(counted, tmp_path):
    """The adapter is tuned on the first task; later rows of its classes are counted."""
    plan = {"training": {"learning_rate": 0.5, "max_steps": 1, "batch_size": 8}}
    pal.learn(counted / "start", counted / "all.npz", output=tmp_path / "one", method="ease", plan=plan)
    more = put_npz(tmp_path / "more.npz", [0, 1, 2])
    again = pal.learn(tmp_path / "one", more, output=tmp_path / "two", method="ease", plan=plan)
    (note,) = [note for note in again.notes if note.startswith("Not used: ")]
    assert note.startswith("Not used: training.learning_rate, training.max_steps. Method 'ease' edits")


def renamed(source: Path, place: Path) -> Path:
    """The same pictures under other ids."""
    rows = np.load(source)
    np.savez(place, x=rows["x"], y=rows["y"], name=np.array([f"again-{name}" for name in rows["name"]]))
    return place


def test_the_same_rows_under_other_ids_are_refused_before_anything_is_measured(counted, tmp_path, unmeasured):
    again = renamed(counted / "all.npz", tmp_path / "again.npz")
    how = {"output": tmp_path / "out", "method": "simple_cil", "head": "grow"}
    with pytest.raises(DataError, match="all 9 rows to learn, first 'again-all-0', say what the class statistics of"):
        pal.learn(counted / "means", again, **how)
    assert [*tmp_path.iterdir()] == [again]


def test_deleting_the_last_class_is_refused_before_anything_is_loaded(counted, tmp_path, unmeasured):
    with pytest.raises(DataError, match="the 9 rows to delete are all that .*means counted of any class"):
        pal.unlearn(counted / "means", counted / "all.npz", output=tmp_path / "out", method="simple_cil")
    assert not [*tmp_path.iterdir()]


def test_another_picture_under_an_id_that_was_counted_is_refused_early(counted, tmp_path, unmeasured):
    other = put_npz(tmp_path / "other.npz", [2, 1, 0] * 3, 0, stem="all")
    with pytest.raises(DataError, match="row 'all-2' was learned with another content or label under this id"):
        pal.unlearn(counted / "means", other, output=tmp_path / "out", method="simple_cil")


@pytest.mark.parametrize(
    ("head", "method", "said"),
    [
        ("new", "simple_cil", "for classes that a new one does not have; accepted: --head grow with --method simple_c"),
        ("new", "finetune", r"for classes that .* \(palimpsest parts .*means --remove 0 --output DIR\)"),
        ("grow", "finetune", "would teach the new classes to the head that nobody asks; accepted: --head grow with"),
    ],
)
def test_a_head_that_a_part_answers_for_is_not_made_new_or_grown_behind_it(
    counted, tmp_path, unmeasured, head, method, said
):
    more = put_npz(tmp_path / "more.npz", [4, 5] * 2)
    with pytest.raises(PlanError, match=f"head = {head}: part 'class_means' by simple_cil of model .*{said}"):
        pal.learn(counted / "means", more, output=tmp_path / "out", method=method, head=head)
    assert [*tmp_path.iterdir()] == [more]


def test_prompts_are_not_tuned_beside_those_of_another_learner(tmp_path, unmeasured):
    model = small_classifier("images")
    for name in ("image_mean", "image_std"):
        setattr(model.config, name, [0.5] * 3)
    pool = PromptPool(PromptPool.example("vit.layers.0", 16))
    pool.made_by = {"method": "l2p", "run": "0"}
    attach(model, [pool]).save_pretrained(tmp_path / "l2p")
    rows = put_npz(tmp_path / "rows.npz", [0, 1] * 2)
    for method in ("dual_prompt", "ease"):
        with pytest.raises(PlanError, match=f"{method}' tunes parts of its own, .*by l2p.*with --method l2p, or a ver"):
            pal.learn(tmp_path / "l2p", rows, output=tmp_path / "out", method=method)


def test_a_head_that_grows_cannot_be_mixed_with_the_one_before(counted, tmp_path, unmeasured):
    more = put_npz(tmp_path / "more.npz", [4, 5] * 2)
    sets = {"retain": put_npz(tmp_path / "kept.npz", [0, 1] * 2), "output": tmp_path / "out", "method": "ug_clu"}
    with pytest.raises(PlanError, match="restore mixes the model after a run with the one before, and --head gives"):
        pal.update(counted / "start", learn=more, forget=counted / "all.npz", head="grow", restore=0.9, **sets)
    assert {path.name for path in tmp_path.iterdir()} == {"more.npz", "kept.npz"}


@pytest.fixture
def unloaded(monkeypatch):
    """No run gets as far as loading a model."""
    monkeypatch.setattr(stages, "load", lambda *_, **__: pytest.fail("the model was loaded first"))


@pytest.mark.parametrize(
    ("shape", "said"),
    [((12, 12, 3), "12x12 pixels; accepted: 8x8, the model's size"), ((8, 8, 1), "1 channel; accepted: 3, as many as")],
)
def test_images_that_a_config_alone_rules_out_are_refused_before_it_is_loaded(counted, tmp_path, unloaded, shape, said):
    np.savez(tmp_path / "odd.npz", x=np.zeros((2, *shape), np.uint8), y=np.array([0, 1]))
    with pytest.raises(DataError, match=f"odd.npz, row 1.*: {said}"):
        pal.learn(counted / "start", tmp_path / "odd.npz", output=tmp_path / "out", method="simple_cil")


def test_an_oracle_with_another_head_is_refused_before_it_is_loaded(counted, tmp_path, unloaded):
    """It lacks a class that stays, has more, or the same in another order; one without what goes is taken."""
    one, rest = (put_npz(tmp_path / f"{n}.npz", [0, 1, 2] * 3, *kept) for n, kept in (("one", (2,)), ("rest", (0, 1))))
    heads = {"fewer": {0: "a", 1: "b"}, "more": dict(enumerate("abcd")), "turned": dict(enumerate("bac"))}
    for name, labels in {"start": dict(enumerate("abc")), **heads}.items():
        model = SmallResNet(resnet_config("resnet20", len(labels), widths=(4, 4, 4), image_size=8))
        model.config.id2label, model.config.label2id = labels, {name: number for number, name in labels.items()}
        model.save_pretrained(tmp_path / name)

    def unlearned(oracle: str, goes: Path, stays: Path) -> None:
        how = {"retain": stays, "oracle": tmp_path / oracle, "output": tmp_path / "out", "method": "gradient_ascent"}
        pal.unlearn(tmp_path / "start", goes, plan={"training": {"learning_rate": 1e-3, "max_steps": 1}}, **how)

    with pytest.raises(PlanError, match="fewer has no class 'c', of which rows stay; give a model retrained on all"):
        unlearned("fewer", rest, one)
    with pytest.raises(PlanError, match="--oracle knows 4 tokens or classes and --model 3; give one with the outputs"):
        unlearned("more", one, rest)
    with pytest.raises(PlanError, match="turned: class 0 is 'b' there and 'a' in --model; give one whose classes"):
        unlearned("turned", one, rest)
    with pytest.raises(pytest.fail.Exception, match="the model was loaded first"):
        unlearned("fewer", one, rest)


def test_icarl_names_the_classes_it_would_lose_before_it_is_loaded(counted, tmp_path, monkeypatch):
    plan = {"training": {"max_steps": 1, "batch_size": 4, "learning_rate": 1e-3}}
    pal.learn(counted / "start", counted / "all.npz", output=tmp_path / "known", method="icarl", plan=plan)
    monkeypatch.setattr(stages, "load", lambda *_, **__: pytest.fail("the model was loaded first"))
    with pytest.raises(
        PlanError, match="icarl: 1 of 3 known classes would be lost, first '2': .* give rows of them as"
    ):
        pal.learn(tmp_path / "known", counted / "two.npz", output=tmp_path / "out", method="icarl", plan=plan)
    assert not (tmp_path / "out").exists()


def test_images_of_another_size_than_the_backbone_takes_are_refused(tmp_path, unmeasured):
    model = small_classifier("images")
    for name in ("image_mean", "image_std"):
        setattr(model.config, name, [0.5] * 3)
    model.save_pretrained(tmp_path / "vit")
    np.savez(tmp_path / "big.npz", x=np.zeros((2, 12, 12, 3), np.uint8), y=np.array([0, 1]), name=np.array(["a", "b"]))
    with pytest.raises(DataError, match="12x12 pixels; accepted: 8x8, the model's size"):
        pal.learn(tmp_path / "vit", tmp_path / "big.npz", output=tmp_path / "out", method="simple_cil")
