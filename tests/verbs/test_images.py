"""Images through the same verbs as text: learned, unlearned, measured, interrupted, refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import palimpsest as pal
from palimpsest import methods
from palimpsest.cli import main
from palimpsest.data.encode.augment import Augmentation
from palimpsest.data.read.examples import read_examples
from palimpsest.engine.inputs import encode_sets
from palimpsest.engine.sections import Encoding
from palimpsest.errors import DataError, FrozenError, PlanError
from palimpsest.loop.job import Job
from palimpsest.loop.run import run
from palimpsest.loop.training import Training
from palimpsest.models.load import load
from palimpsest.models.resnet import SmallResNet, resnet_config
from palimpsest.report.schema import RunResult

STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
FAST = {"training": {"learning_rate": 0.02, "batch_size": 16, "max_steps": 20}}


def put_npz(path: Path, start: int, stop: int) -> Path:
    """Noise in which the channel of its class is brighter."""
    rng = np.random.default_rng(0)
    label = rng.integers(0, 3, 64)
    images = rng.integers(0, 120, (64, 8, 8, 3), dtype=np.uint8)
    images[np.arange(64), :, :, label] += 100
    names = np.array([f"photo-{n}" for n in range(64)])
    np.savez(path, x=images[start:stop], y=label[start:stop], name=names[start:stop])
    return path


@pytest.fixture(scope="session")
def album(tmp_path_factory) -> Path:
    """new/ (untrained), model/ (trained on learn.npz), and forget, retain, learn, holdout .npz."""
    folder = tmp_path_factory.mktemp("album")
    for name, start, stop in (("forget", 0, 8), ("retain", 8, 48), ("learn", 0, 48), ("holdout", 48, 64)):
        put_npz(folder / f"{name}.npz", start, stop)
    torch.manual_seed(0)
    SmallResNet(resnet_config("resnet20", 3, widths=(4, 4, 4), image_size=8)).save_pretrained(folder / "new")
    pal.learn(folder / "new", folder / "learn.npz", holdout=folder / "holdout.npz", output=folder / "model", plan=FAST)
    return folder


def unlearn(album: Path, output: Path, **more) -> RunResult:
    plan = {"training": {**FAST["training"], "max_steps": 2, "batch_size": 4}, **more.pop("plan", {})}
    return pal.unlearn(album / "model", album / "forget.npz", output=output, plan=plan, **more)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def changed(before: Path, after: Path, *, statistics: bool) -> set[str]:
    """Tensors that differ, of the statistics of batch normalisation or of all else."""
    one, other = weights(before), weights(after)
    names = {name for name in one if name.endswith(STATISTICS) == statistics}
    assert one.keys() == other.keys()
    return {name for name in names if not torch.equal(one[name], other[name])}


def test_learning_images(album):
    result = RunResult.load(album / "model" / "result.json")
    assert set(result.scores["after"]) == {"learn", "holdout"}
    assert set(result.scores["after"]["learn"]) == {"accuracy", "prob"}
    before, after = (result.scores[column]["learn"]["accuracy"].value for column in ("before", "after"))
    assert before < 0.6
    assert after > 0.9
    assert (album / "model" / "report.html").stat().st_size > 1000
    assert all(changed(album / "new", album / "model", statistics=kind) for kind in (True, False))
    assert load(album / "model").pixels == load(album / "new").pixels


@pytest.mark.slow
def test_a_net_that_never_saw_data_learns_at_a_rate_of_its_own(album, tmp_path):
    """Its statistics of batch normalisation are far from the data's: until they are near, every reading rises."""
    torch.manual_seed(0)
    net = SmallResNet(resnet_config("resnet20", 3, widths=(8, 8, 8), image_size=8))
    net.save_pretrained(tmp_path / "new")
    plan = {"training": {"max_steps": 60}}
    result = pal.learn(tmp_path / "new", album / "learn.npz", output=tmp_path / "out", plan=plan)
    assert result.plan["control"]["kind"] == "auto"
    assert result.scores["after"]["learn"]["accuracy"].value > 0.9


def test_learning_that_changed_nothing_is_an_error(album, tmp_path):
    """Without a round there is nothing to keep; what must stay would hold, and the verdict say passed."""
    plan = {"training": {"max_seconds": 1e-9}}
    with pytest.raises(FrozenError, match=r"nothing was learned \(1e-09 seconds.*--lr"):
        pal.learn(
            album / "model", album / "forget.npz", retain=album / "retain.npz", output=tmp_path / "out", plan=plan
        )
    assert not (tmp_path / "out").exists()
    left = {path.name for path in (tmp_path / "out.partial").iterdir()}
    assert left == {"plan.json", "metrics.jsonl", "rejected.txt"}


def test_unlearning_images_moves_statistics_by_what_stays_alone(album, tmp_path):
    result = unlearn(album, tmp_path / "out", method="grad_diff", retain=album / "retain.npz")
    before, after = (result.scores[column]["forget"]["prob"].value for column in ("before", "after"))
    assert after < before
    assert changed(album / "model", tmp_path / "out", statistics=True)
    unlearn(album, tmp_path / "alone", method="gradient_ascent")
    assert not changed(album / "model", tmp_path / "alone", statistics=True)
    assert changed(album / "model", tmp_path / "alone", statistics=False)


@pytest.mark.parametrize("name", ["npo", "kl"])
def test_methods_that_ask_the_model_before(album, tmp_path, name):
    """Their reference is a file of logits, which the finished run does not keep."""
    result = unlearn(album, tmp_path / "out", method=name, retain=album / "retain.npz")
    assert result.scores["after"]["forget"]["prob"].value < result.scores["before"]["forget"]["prob"].value
    assert not (tmp_path / "out" / "reference").exists()


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
def test_lora_moves_convolutions_and_head_and_no_statistics(album, tmp_path):
    unlearn(album, tmp_path / "out", method="gradient_ascent", plan={"scope": {"kind": "lora", "rank": 2}})
    expected = {name for name in weights(album / "model") if "conv" in name or name == "linear.weight"}
    assert changed(album / "model", tmp_path / "out", statistics=False) == expected
    assert not changed(album / "model", tmp_path / "out", statistics=True)


def test_accuracy_is_given_back_by_mixing_weights_and_statistics(album, tmp_path):
    """The weights lie between those of before and those that the same run leaves without giving back."""
    training = {"learning_rate": 0.05, "batch_size": 4, "max_steps": 10}
    how = {"method": "gradient_ascent", "retain": album / "retain.npz", "plan": {"training": training}}
    unlearn(album, tmp_path / "raw", **how)
    result = unlearn(album, tmp_path / "out", restore=0.9, **how)
    alpha = result.calibration.alpha
    assert result.calibration.metric == "accuracy"
    before, raw, found = (weights(folder) for folder in (album / "model", tmp_path / "raw", tmp_path / "out"))
    for name in (n for n, tensor in found.items() if tensor.is_floating_point()):
        torch.testing.assert_close(found[name], (1 - alpha) * before[name] + alpha * raw[name], rtol=1e-5, atol=1e-6)
    measured = pal.measure(tmp_path / "out", album / "retain.npz").scores["accuracy"].value
    assert result.scores["after"]["retain"]["accuracy"].value == pytest.approx(measured)
    assert measured >= 0.9 * result.scores["before"]["retain"]["accuracy"].value


def test_what_was_never_learned_cannot_be_forgotten(album, tmp_path):
    with pytest.raises(DataError, match="16 of 16 ids .*photo-48.* were never learned"):
        pal.unlearn(album / "model", album / "holdout.npz", output=tmp_path / "out", method="gradient_ascent")


def test_an_oracle_of_other_classes_is_refused_before_the_run(album, tmp_path):
    SmallResNet(resnet_config("resnet20", 4, widths=(4, 4, 4), image_size=8)).save_pretrained(tmp_path / "four")
    with pytest.raises(PlanError, match="--oracle knows 4 tokens or classes and --model 3"):
        unlearn(album, tmp_path / "out", method="gradient_ascent", oracle=tmp_path / "four")
    assert not list(tmp_path.glob("out*"))


def test_a_set_that_shares_images_is_refused(album, tmp_path):
    with pytest.raises(DataError, match="forget and retain share 8 ids"):
        unlearn(album, tmp_path / "out", method="grad_diff", retain=album / "learn.npz")


def test_the_command_line_takes_images(album, tmp_path, capsys):
    forget, out = str(album / "forget.npz"), str(tmp_path / "out")
    common = ["--method", "gradient_ascent", "--max-steps", "1", "--json"]
    main(["unlearn", "--model", str(album / "model"), "--forget", forget, "-o", out, *common])
    result = json.loads(capsys.readouterr().out)
    assert main(["measure", "--model", out, "--data", forget, "--json"]) == 0
    measured = json.loads(capsys.readouterr().out)["metrics"]
    assert list(measured) == ["accuracy", "prob"]
    assert measured["prob"]["value"] == pytest.approx(result["scores"]["after"]["forget"]["prob"]["value"], rel=1e-5)
    assert main(["measure", "--model", out, "--data", forget, "--metrics", "ma"]) == 2
    assert "metrics ma cannot be taken of images; accepted: accuracy, " in capsys.readouterr().err


def test_a_plan_that_asks_for_text_metrics_is_refused(album, tmp_path):
    with pytest.raises(PlanError, match="metrics es cannot be taken of images"):
        unlearn(album, tmp_path / "out", method="gradient_ascent", plan={"measuring": {"metrics": ["es"]}})
    assert list(tmp_path.iterdir()) == []


def test_text_for_an_image_model_and_the_reverse(album, clinic, tmp_path):
    with pytest.raises(
        DataError, match=r"line 1 \(id 'p0'\) is text and model .* an image classifier; accepted: images"
    ):
        pal.measure(album / "model", clinic / "forget.jsonl")
    with pytest.raises(DataError, match=r"row 1 \(id 'photo-0'\) is an image and model .* a causal LM; accepted: rows"):
        pal.unlearn(clinic / "model", album / "forget.npz", output=tmp_path / "out", method="gradient_ascent")


def test_what_compares_tokens_is_refused(album, tmp_path):
    with pytest.raises(PlanError, match="method 'icu' looks for analogous texts and .*accepted: .*grad_diff") as error:
        unlearn(album, tmp_path / "out", method="icu", retain=album / "retain.npz")
    assert "icu," not in str(error.value)
    with pytest.raises(PlanError, match="refine tests what of a text can be extracted"):
        unlearn(album, tmp_path / "out", method="gradient_ascent", refine=True)
    assert list(tmp_path.iterdir()) == []


class Interrupt(Exception):
    """The process dies."""


def test_an_interrupted_run_on_augmented_images_ends_with_the_same_bits(album, tmp_path):
    def go(folder: Path, stop_at: int | None = None) -> dict[str, torch.Tensor]:
        loaded = load(album / "new")
        examples = {"learn": read_examples(album / "learn.npz")}
        sets = encode_sets(examples, loaded, Encoding(augment={"padding": 1}))
        assert sets["learn"].augment == Augmentation(padding=1)
        torch.manual_seed(0)
        method = methods.load("finetune")(methods.configure("finetune", {}))
        method.prepare(loaded.model, sets)

        def progress(step: int, *_: object) -> None:
            if step == stop_at:
                raise Interrupt

        training = Training(**FAST["training"], checkpoint_steps=2)
        try:
            run(Job(method, loaded.model, sets, training, folder, progress=progress))
        except Interrupt:
            return {}
        return loaded.model.state_dict()

    for name in ("whole", "cut"):
        (tmp_path / name).mkdir()
    whole = go(tmp_path / "whole")
    assert go(tmp_path / "cut", stop_at=5) == {}
    again = go(tmp_path / "cut")
    assert all(torch.equal(value, again[name]) for name, value in whole.items())


def test_sets_that_are_only_measured_are_never_augmented(album):
    examples = {name: read_examples(album / f"{name}.npz") for name in ("forget", "retain", "holdout")}
    sets = encode_sets(examples, load(album / "new"), Encoding(augment={}))
    assert {name: (s.augment is not None, s.moves_statistics) for name, s in sets.items()} == {
        "forget": (True, False),
        "retain": (True, True),
        "holdout": (False, True),
    }
    assert replace(sets["forget"], augment=None) == sets["forget"].plain()


@pytest.mark.shared
@pytest.mark.slow
def test_a_real_network_forgets_real_photographs(shared_data, tmp_path):
    """resnet20 knows 99.64 % of its training images and 91.40 % of the test images."""
    file = np.load(shared_data / "cifar10" / "train_0.npz")
    for name, rows in (("forget", slice(0, 32)), ("retain", slice(32, 96))):
        np.savez(tmp_path / f"{name}.npz", **{key: file[key][rows] for key in ("x", "y", "name")})
    result = pal.unlearn(
        f"resnet20@{shared_data / 'cifar10-resnets'}",
        tmp_path / "forget.npz",
        retain=tmp_path / "retain.npz",
        output=tmp_path / "out",
        method="grad_diff",
        plan={"training": {"optimizer": "sgd", "learning_rate": 0.01, "batch_size": 32, "max_steps": 8}},
    )
    before, after = ({n: s["prob"].value for n, s in result.scores[c].items()} for c in ("before", "after"))
    assert min(before.values()) > 0.98
    assert after["forget"] < 0.98 < after["retain"]
    assert result.scores["after"]["retain"]["accuracy"].value > 0.95
