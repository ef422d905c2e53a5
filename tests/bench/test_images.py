"""A bench of images: classes of eight-pixel pictures and a small ResNet."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from palimpsest.bench.config import make_bench
from palimpsest.bench.defaults import with_defaults
from palimpsest.bench.results import ORACLE, RANDOM, BenchResult
from palimpsest.bench.run import run_bench
from palimpsest.models.resnet import SmallResNet, resnet_config

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def result(tmp_path_factory) -> BenchResult:
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    pattern = rng.integers(0, 256, size=(4, 8, 8, 3))
    for name, count in (("train", 12), ("test", 4)):
        y = np.repeat(np.arange(4), count).astype(np.uint8)
        x = np.clip(pattern[y] + rng.normal(0, 40, size=(len(y), 8, 8, 3)), 0, 255).astype(np.uint8)
        np.savez(folder / f"{name}.npz", x=x, y=y)
    torch.manual_seed(0)
    SmallResNet(resnet_config("resnet20", 4, widths=(4, 8, 8), image_size=8)).save_pretrained(folder / "model")
    training = {"training": {"max_steps": 12, "batch_size": 8}}
    values = {
        "model": str(folder / "model"),
        "data": [str(folder / "train.npz")],
        "test": str(folder / "test.npz"),
        "per_class": 10,
        "encoding": {"augment": {"padding": 1, "mirror": False}},
        "stream": {"after": [2]},
        "buffer": 12,
        "rows": {"ug_clu": "ug_clu", "er+random_label": "er+random_label"},
        "learning": training,
        "unlearning": training,
    }
    return run_bench(make_bench(values), folder / "out")


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
