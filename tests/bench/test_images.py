"""A bench of images: classes of eight-pixel pictures and a small ResNet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from palimpsest.bench.define.config import make_bench
from palimpsest.bench.define.defaults import with_defaults
from palimpsest.bench.results import ORACLE, RANDOM, BenchResult
from palimpsest.bench.whole_bench import run_bench
from palimpsest.errors import UsageError
from palimpsest.models.resnet import SmallResNet, resnet_config

pytestmark = pytest.mark.slow


def put_images(path: Path, pattern: np.ndarray, count: int, rng: np.random.Generator) -> str:
    y = np.repeat(np.arange(len(pattern)), count).astype(np.uint8)
    x = np.clip(pattern[y] + rng.normal(0, 40, size=(len(y), *pattern.shape[1:])), 0, 255).astype(np.uint8)
    np.savez(path, x=x, y=y)
    return str(path)


@pytest.fixture(scope="module")
def values(tmp_path_factory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    pattern = rng.integers(0, 256, size=(4, 8, 8, 3))
    files = {name: put_images(folder / f"{name}.npz", pattern, n, rng) for name, n in (("train", 12), ("test", 4))}
    torch.manual_seed(0)
    SmallResNet(resnet_config("resnet20", 4, widths=(4, 8, 8), image_size=8)).save_pretrained(folder / "model")
    training = {"training": {"max_steps": 12, "batch_size": 8}}
    return {
        "model": str(folder / "model"),
        "data": [files["train"]],
        "test": files["test"],
        "per_class": 10,
        "encoding": {"augment": {"padding": 1, "mirror": False}},
        "stream": {"after": [2]},
        "buffer": 12,
        "rows": {"ug_clu": "ug_clu", "er+random_label": "er+random_label"},
        "learning": training,
        "unlearning": training,
    }


@pytest.fixture(scope="module")
def result(values, tmp_path_factory) -> BenchResult:
    return run_bench(make_bench(values), tmp_path_factory.mktemp("bench") / "out")


def refused(values: dict[str, Any], output: Path, **changed: Any) -> str:
    """The one line that a bench is refused with, before anything was trained."""
    with pytest.raises(UsageError) as caught:
        run_bench(make_bench({**values, **changed}), output)
    assert not (output / "oracles").exists()
    return str(caught.value)


def test_images_that_the_model_cannot_take_are_refused_before_anything_is_trained(values, tmp_path):
    rng = np.random.default_rng(1)
    six = put_images(tmp_path / "six.npz", rng.integers(0, 256, (6, 8, 8, 3)), 10, rng)
    assert "--data: " in refused(values, tmp_path / "out", data=[six], test=None)
    large = put_images(tmp_path / "large.npz", rng.integers(0, 256, (4, 9, 9, 3)), 4, rng)
    assert "--test: " in refused(values, tmp_path / "out", test=large)


def test_a_method_for_texts_is_refused_before_anything_is_trained(values, tmp_path):
    said = refused(values, tmp_path / "out", rows={"icu": "er+icu"})
    assert "method 'icu' looks for analogous texts" in said


def test_one_image_under_two_ids_is_refused(values, tmp_path):
    with np.load(values["data"][0]) as arrays:
        doubled = {name: np.concatenate([arrays[name]] * 2) for name in ("x", "y")}
    np.savez(tmp_path / "twice.npz", id=np.array([f"i{k}" for k in range(len(doubled["y"]))]), **doubled)
    said = refused(values, tmp_path / "out", data=[str(tmp_path / "twice.npz")], per_class=None)
    assert "48 contents are there under two ids (first: " in said
    assert "row 1 (id 'i0') and " in said


def test_an_output_that_is_a_file_is_refused(values, tmp_path):
    (tmp_path / "file").write_text("")
    assert "is a file; give a new folder" in refused(values, tmp_path / "file")


def test_a_class_of_each_task_goes(result):
    assert [(r.learn, r.forget) for r in result.streams[0]] == [(20, 0), (20, 0), (0, 20)]
    assert result.streams[0][2].tasks == {"learn 0+1": 10, "learn 2+3": 10}


def test_images_have_no_extraction_strength_and_all_five_components(result):
    last = result.rows["ug_clu"][0][2].reading
    assert all(score.strength is None for score in last.sets.values())
    assert {"forget", "retain", "test"} <= last.sets.keys()
    assert last.sets["test"].n == 8  # of the two classes that are left
    assert last.mia is not None


def test_the_oracle_never_learned_the_forgotten_classes(result):
    last = result.rows[ORACLE][0][2].reading
    assert last.sets["forget"].accuracy == 0 < last.sets["retain"].accuracy
    assert result.rows[RANDOM][0][1].reading.sets["learn"].accuracy > 0


def test_images_are_trained_like_images(result):
    assert result.bench["learning"]["training"]["optimizer"] == "sgd"
    assert result.bench["learning"]["training"]["max_steps"] == 12


def test_ascent_on_images_meets_its_clip_by_default(result):
    assert result.bench["methods"]["ug_clu"]["options"] == {"ascent": 500.0, "mask_batch": 32}


def test_given_options_go_over_the_defaults_one_by_one(tmp_path):
    model = tmp_path / "model"
    SmallResNet(resnet_config("resnet20", 4, widths=(4, 8, 8), image_size=8)).save_pretrained(model)
    given = {"model": str(model), "methods": {"ug_clu": {"options": {"every": 3}, "training": {"seed": 1}}}}
    methods = with_defaults(given)["methods"]
    assert methods["ug_clu"] == {"options": {"ascent": 500.0, "mask_batch": 32, "every": 3}, "training": {"seed": 1}}
    assert methods["sfr_on"]["options"]["fast_norm"] == 1.0
