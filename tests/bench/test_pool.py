"""Files of a bench: each has one role whatever its name is, and a class is one class however it is spelled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Picture

from palimpsest.bench.define.config import Bench, make_bench
from palimpsest.bench.define.labels import label_of
from palimpsest.bench.define.pool import pool_of_bench, stream_of
from palimpsest.bench.perform.request_cell import RequestCell, read_anew, situations_of
from palimpsest.errors import DataError
from palimpsest.models.resnet import SmallResNet, resnet_config

NAMES = ("ant", "bee", "cat", "dog")
RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def _fresh(monkeypatch, tmp_path) -> None:
    monkeypatch.chdir(tmp_path)
    read_anew()
    model = SmallResNet(resnet_config("resnet20", 4, widths=(4, 8, 8), image_size=8))
    model.config.label2id = {name: number for number, name in enumerate(NAMES)}
    model.config.id2label = dict(enumerate(NAMES))
    model.save_pretrained("model")


def put_numbers(path: str, count: int = 4) -> None:
    labels = np.repeat(np.arange(4), count)
    np.savez(path, x=RNG.integers(0, 256, (4 * count, 8, 8, 3), dtype=np.uint8), y=labels)


def put_folder(path: str, count: int = 4, names: tuple[str, ...] = NAMES) -> None:
    for name in names:
        Path(path, name).mkdir(parents=True)
        for number in range(count):
            pixels = RNG.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Picture.fromarray(pixels).save(Path(path, name, f"{path}{number}.png"))


def bench(**values: Any) -> Bench:
    return make_bench({"model": "model", "rows": {"ug_clu": "ug_clu"}, **values})


@pytest.mark.parametrize("name", ["test", "replay"])
def test_data_of_any_name_are_data(name):
    put_folder(name)
    pool = pool_of_bench(bench(data=name))
    assert (len(pool.data), len(pool.test), len(pool.replay)) == (16, 0, 0)


def test_files_can_be_the_tasks():
    """Domain-incremental: the same classes come again, in another file."""
    put_numbers("summer.npz")
    put_numbers("winter.npz")
    made = stream_of(bench(data=["winter.npz", "summer.npz"], stream={"kind": "incremental", "tasks": "files"}), 0)
    pool = pool_of_bench(bench(data=["winter.npz", "summer.npz"]))
    assert [request.name for request in made.requests] == ["learn winter.npz", "learn summer.npz"]
    for request, file in zip(made.requests, ("winter.npz", "summer.npz"), strict=True):
        assert {pool.files[i] for i in request.learn} == {file}
        assert {label_of(pool.data[i]) for i in request.learn} == {0, 1, 2, 3}


def test_tasks_can_be_given_with_the_images():
    labels, tasks = np.arange(8) % 4, np.repeat(["night", "day"], 4)
    np.savez("both.npz", x=RNG.integers(0, 256, (8, 8, 8, 3), dtype=np.uint8), y=labels, task=tasks)
    made = stream_of(bench(data="both.npz", stream={"kind": "incremental", "tasks": "given"}), 0)
    assert [(request.name, len(request.learn)) for request in made.requests] == [("learn night", 4), ("learn day", 4)]


def test_images_without_a_task_are_refused_where_it_is_asked_for():
    put_numbers("plain.npz")
    with pytest.raises(DataError, match=r"16 of 16 examples have no task .*stream.tasks = files or classes"):
        stream_of(bench(data="plain.npz", stream={"tasks": "given"}), 0)


def test_one_class_by_number_and_by_name_is_one_class():
    put_folder("named")
    put_numbers("numbered.npz")
    pool = pool_of_bench(bench(data=["named", "numbered.npz"]))
    assert {label_of(example) for example in pool.data.values()} == {0, 1, 2, 3}


def test_images_by_name_are_tested_on_images_by_number():
    put_folder("named")
    put_numbers("numbered.npz")
    opened = bench(data="named", test="numbered.npz")
    cell = RequestCell(opened, Path("out"), Path("oracles"), 0, 0)
    known = {label_of(opened_example) for opened_example in cell.pool.examples(cell.situation.known)}
    tested = {label_of(example) for example in cell.pool.examples(cell.pool.test_for(cell.situation))}
    assert tested == known
    assert len(tested) == 2


def test_names_stay_names_where_all_are_names():
    put_folder("named")
    assert situations_of(bench(data="named"), 0)[0].request.name == "learn ant+bee"


def test_a_test_set_of_other_classes_is_refused():
    put_folder("named")
    put_folder("strange", names=("fox", "owl"))
    with pytest.raises(DataError, match=r"--test: its classes or subjects \(such as 'fox'\) are none of the data's"):
        pool_of_bench(bench(data="named", test="strange"))


def test_a_sample_of_a_part_is_a_part_of_the_sample():
    put_folder("named", count=20)
    cell = RequestCell(bench(data="named", limit=10), Path("out"), Path("oracles"), 0, 0)
    ids = tuple(cell.pool.data)
    whole, half = cell._sample(ids), cell._sample(ids[::2])
    assert len(whole) == len(half) == 10
    assert set(whole) & set(ids[::2]) <= set(half)
    assert cell._sample(ids[:7]) == ids[:7]


def test_a_second_bench_of_one_process_reads_the_files_anew():
    put_numbers("numbered.npz", 4)
    opened = bench(data="numbered.npz")
    assert len(situations_of(opened, 0)[0].request.learn) == 8
    put_numbers("numbered.npz", 2)
    assert len(situations_of(opened, 0)[0].request.learn) == 8
    read_anew()
    assert len(situations_of(opened, 0)[0].request.learn) == 4
