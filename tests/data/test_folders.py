"""Dataset folders: their splits by name, never two files of different names as one set."""

from __future__ import annotations

import json
from pathlib import Path

import datasets
import pytest

from palimpsest.data.read.examples import read_examples, read_rows
from palimpsest.data.read.folders import splits
from palimpsest.data.read.layout import Layout
from palimpsest.data.read.tables import READERS
from palimpsest.errors import DataError
from palimpsest.records import Text


def fill(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps({"text": name}) + "\n")
    return folder


def refusal(source: Path | str, layout: Layout | None = None) -> str:
    with pytest.raises(DataError) as caught:
        read_rows(source, layout or Layout())
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("files", "found"),
    [
        (["forget.jsonl", "retain.jsonl"], ["forget", "retain"]),
        (["person1.jsonl", "person2.jsonl"], ["person1", "person2"]),
        (["train-clean.jsonl", "train-noisy.jsonl"], ["train-clean", "train-noisy"]),
        (["data/train-00000-of-00002.jsonl", "data/train-00001-of-00002.jsonl"], ["train"]),
        (["train/a.jsonl", "train/b.jsonl", "test/new/a.jsonl"], ["train", "test"]),
        (["forget/rows.jsonl", "retain/rows.jsonl"], ["forget/rows", "retain/rows"]),
        (["easy/train.jsonl", "hard/train.jsonl"], ["easy/train", "hard/train"]),
        (["0000.jsonl", "0001.jsonl"], ["train"]),
        (["forget/0000.jsonl", "retain/part-0.jsonl"], ["forget", "retain"]),
        (["rows.jsonl", ".hidden.jsonl", "_temporary/rows.jsonl", "state.json", "README.md"], ["rows"]),
    ],
)
def test_the_splits_of_a_folder(tmp_path: Path, files: list[str], found: list[str]) -> None:
    assert list(splits(fill(tmp_path, *files), READERS)) == found
    for split in found:
        assert read_rows(f"{tmp_path}:{split}").examples == read_examples(tmp_path, split=split)


def test_one_split_needs_no_name_and_several_do(tmp_path: Path) -> None:
    one, two = fill(tmp_path / "one", "rows.jsonl"), fill(tmp_path / "two", "forget.jsonl", "retain.jsonl")
    assert read_rows(one).examples[0].where == f"{one}/rows.jsonl, line 1"
    assert f"{two}: is a folder with the splits forget, retain; name one as {two}:SPLIT or --split SPLIT" in refusal(
        two
    )
    assert [e.content for e in read_rows(f"{two}:retain").examples] == [Text("retain.jsonl")]
    chosen = read_rows(two, Layout(split="forget"))
    assert ([e.content for e in chosen.examples], chosen.settled) == ([Text("forget.jsonl")], {"split"})
    assert "unknown split 'froget'; did you mean 'forget'? accepted: forget, retain; name one" in refusal(
        f"{two}:froget"
    )
    # A split that is named here wins over the one that is named for all.
    assert read_rows(f"{two}:retain", Layout(split="forget")).settled == set()
    assert read_rows(one / "rows.jsonl", Layout(split="forget")).settled == set()


def test_what_is_no_split_is_refused(tmp_path: Path) -> None:
    fill(tmp_path, "rows.jsonl", "same/a.csv", "same/a.jsonl")
    assert "rows.jsonl has no such split; accepted:" in refusal(f"{tmp_path}/rows.jsonl:train")
    assert "has no such split" in refusal(f"{tmp_path}:")
    assert "split 'a' is there as .csv and .jsonl; give one of the files" in refusal(tmp_path / "same")
    (tmp_path / "empty").mkdir()
    assert "is a folder without rows; accepted: .jsonl/.json/.csv/.tsv/.parquet files" in refusal(tmp_path / "empty")


def test_what_save_to_disk_wrote(tmp_path: Path) -> None:
    a, b = (datasets.Dataset.from_list([{"text": text, "id": 1}]) for text in "ab")
    a.with_format("numpy").save_to_disk(tmp_path / "one")
    datasets.DatasetDict(train=a, test=b).save_to_disk(tmp_path / "two")
    datasets.DatasetDict(test=b).save_to_disk(tmp_path / "single")
    for source, text in (("one", "a"), ("two:test", "b"), ("two/train", "a"), ("single", "b")):
        assert [e.content for e in read_rows(f"{tmp_path}/{source}").examples] == [Text(text)], source
    assert read_rows(tmp_path / "two", Layout(split="test")).examples[0].where == f"{tmp_path}/two/test, row 1"
    assert read_rows(tmp_path / "one", Layout(split="test")).settled == set()
    assert "is a folder with the splits train, test; name one as" in refusal(tmp_path / "two")
    assert "is one saved dataset without splits; give the folder alone" in refusal(f"{tmp_path}/one:train")
    arrow = next((tmp_path / "one").glob("*.arrow"))
    assert "unknown extension '.arrow', a part of a saved dataset; give the folder that it lies in" in refusal(arrow)


def test_a_saved_dataset_that_is_broken(tmp_path: Path) -> None:
    for name, content in (("state.json", "{}"), ("dataset_info.json", "{}")):
        (tmp_path / name).write_text(content)
    assert "cannot be read as a saved dataset" in refusal(tmp_path)
    (tmp_path / "dict").mkdir()
    for content, problem in (
        ("{}", "not the list of splits of a saved dataset"),
        ('{"splits": 3}', "not the list of splits of a saved dataset"),
        ('{"splits": ["train"]}', "train: cannot be read as a saved dataset"),
    ):
        (tmp_path / "dict" / "dataset_dict.json").write_text(content)
        assert problem in refusal(tmp_path / "dict")


def test_a_list_of_splits_without_end_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "dataset_dict.json").write_text('{"splits":' + "[" * 100_000)
    with pytest.raises(DataError, match="not the list of splits"):
        read_rows(tmp_path)
