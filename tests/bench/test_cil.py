"""Class-incremental benches: the head grows with the stream, tasks are asked on test examples, nothing is forgotten."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from palimpsest.bench.define.config import make_bench
from palimpsest.bench.results import ORACLE, BenchResult
from palimpsest.bench.whole_bench import run_bench
from palimpsest.cli import main
from palimpsest.data.streams.tasks import split_by_class
from palimpsest.errors import PlanError
from palimpsest.models.load import load
from palimpsest.models.resnet import SmallResNet, resnet_config


def test_a_first_task_of_its_own_size_and_classes_in_a_seeded_order():
    labels = {f"i{n}": n % 7 for n in range(14)}
    tasks = split_by_class(labels, 2, first=3)
    assert [task.classes for task in tasks] == [("0", "1", "2"), ("3", "4"), ("5", "6")]
    shuffled = split_by_class(labels, 2, first=3, seed=1)
    assert [len(task.classes) for task in shuffled] == [3, 2, 2]
    assert {c for task in shuffled for c in task.classes} == set(map(str, range(7)))
    assert shuffled != tasks
    with pytest.raises(PlanError, match="2 per task cannot be made of 3"):
        split_by_class(labels, 2, first=4)
    with pytest.raises(
        PlanError, match=r"2 per task cannot be made of 7 \(class\); accepted: 1, 7, or a first task of 1$"
    ):
        split_by_class(labels, 2)
    with pytest.raises(PlanError, match="a first task of 8 cannot be made of 7"):
        split_by_class(labels, 2, first=8)


def put_images(path: Path, count: int) -> Path:
    """Five classes, one brightness each, called by numbers that are no rows of a head."""
    rng = np.random.default_rng(count)
    label = np.tile(np.arange(5), count)
    x = np.clip(label[:, None, None, None] * 50 + rng.normal(0, 9, (5 * count, 8, 8, 1)), 0, 255).astype(np.uint8)
    np.savez(path, x=x, y=label * 10, name=np.array([f"{path.stem}-{n}" for n in range(5 * count)]))
    return path


@pytest.fixture(scope="module")
def values(tmp_path_factory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("cil")
    torch.manual_seed(0)
    config = resnet_config("resnet20", 2, widths=(4, 4, 4), image_size=8, image_mean=(0.4,), image_std=(0.3,))
    SmallResNet(config).save_pretrained(folder / "backbone")
    return {
        "model": str(folder / "backbone"),
        "data": [str(put_images(folder / "train.npz", 6))],
        "test": str(put_images(folder / "test.npz", 2)),
        "stream": {"kind": "incremental", "classes_per_task": 2, "base_classes": 3, "class_order": 3},
        "head": "new",
        "tasks_on": "test",
        "rows": ["finetune"],
        "buffer": 10,
        "learning": {"training": {"max_steps": 3, "batch_size": 8}},
    }


@pytest.fixture(scope="module")
def result(values, tmp_path_factory) -> BenchResult:
    return run_bench(make_bench(values), tmp_path_factory.mktemp("bench") / "out")


def test_heads_grow_with_the_stream_in_its_order(result):
    first, second = result.rows["finetune"][0]
    one, other = (load(step.model).class_names for step in (first, second))
    assert (len(one), len(other)) == (3, 5)
    assert other.items() >= one.items()
    assert load(result.rows[ORACLE][0][1].model).class_names == other
    assert set(other) == {"0", "10", "20", "30", "40"}
    assert sorted(other, key=other.__getitem__) != sorted(other, key=int)  # shuffled by class_order


def test_tasks_are_asked_on_test_examples_of_their_classes(result):
    reading = result.rows["finetune"][0][1].reading
    tasks = [score for name, score in reading.sets.items() if name.startswith("task ")]
    assert [score.n for score in tasks] == [6, 4]
    assert reading.sets["test"].n == 10
    together = sum(value for score in tasks for value in score.accuracies.values()) / 10
    assert together == pytest.approx(reading.sets["test"].accuracy)


def test_nothing_is_forgotten_so_that_there_are_no_controls(values, result):
    assert list(result.rows) == [ORACLE, "finetune"]
    assert list(make_bench({**values, "stream": {"kind": "random"}, "rows": "er+salun"}).all_rows) == [
        "er+salun",
        "do nothing",
        "random edit",
    ]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"test": None}, "tasks are asked on test examples, and there are none; give --test"),
        ({"calibrate": True, "stream": "random", "rows": "er+salun"}, "a head that grows gives them other outputs"),
        ({"head": "wide"}, "head: Input should be 'keep', 'grow' or 'new'"),
    ],
)
def test_what_does_not_fit_is_refused(values, changed, said):
    with pytest.raises(PlanError, match=said):
        make_bench({**values, **changed})


def test_the_command_has_the_custom_of_the_field(values, tmp_path, capsys):
    """Head, test examples, scenario and rows are those of class-incremental learning where nothing is said."""
    arguments = ["bench", "cil", "--model", values["model"], "--data", values["data"][0], "--test", values["test"]]
    more = ["--base-classes", "3", "--methods", "finetune", "--set", "learning.training.max_steps=1"]
    assert main([*arguments, *more, "--output", str(tmp_path / "out"), "--json"]) == 0
    bench = json.loads(capsys.readouterr().out)["bench"]
    assert (bench["head"], bench["tasks_on"], bench["buffer"]) == ("new", "test", 2000)
    assert (bench["stream"]["kind"], bench["stream"]["base_classes"]) == ("incremental", 3)
