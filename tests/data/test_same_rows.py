"""The law of reading: the same rows are the same examples, whatever they come from."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palimpsest.data.read.examples import read_rows, set_digest
from palimpsest.data.read.layout import Layout, Source
from palimpsest.records import Completion, Example, Text, content_id

Row = dict[str, Any]

ODD = [
    'say "yes", please',
    "two\nlines; and\ta tab",
    "\r\nreturns\r\n",
    "  leading blanks, trailing  ",
    "émile ☃ 😀 e\u0301",
    "\u2028line separator\u2029",
    "'quoted', =SUM(A1), #comment, \\n",
    "\ufeffmark",
    "0007",
    "NaN",
    "null",
    "x" * 5000,
]
ROWS: list[Row] = [
    {"id": number, "prompt": f"{number}{text}", "completion": text, "subject": None if number % 3 else f"person {text}"}
    for number, text in enumerate(ODD)
]
EXPECTED = [
    Example(str(row["id"]), Completion(row["prompt"], row["completion"]), row["subject"] or None) for row in ROWS
]


def full(rows: list[Row]) -> list[Row]:
    """With every column in every row: Arrow would take the first row's alone."""
    names = dict.fromkeys(name for row in rows for name in row)
    return [{name: row.get(name) for name in names} for row in rows]


def jsonl(rows: list[Row], folder: Path) -> Source:
    return written(folder / "rows.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def jsonl_bom(rows: list[Row], folder: Path) -> Source:
    return written(folder / "rows.jsonl", "\ufeff" + "\r\n".join(json.dumps(row) for row in rows))


def array(rows: list[Row], folder: Path) -> Source:
    return written(folder / "rows.json", json.dumps(rows, indent=2))


def wrapped(rows: list[Row], folder: Path) -> Source:
    return written(folder / "rows.json", json.dumps({"version": "1.0", "data": rows}))


def lines_named_json(rows: list[Row], folder: Path) -> Source:
    return written(folder / "rows.json", "\n".join(json.dumps(row) for row in rows))


def cells(rows: list[Row], delimiter: str) -> str:
    buffer = io.StringIO(newline="")
    writer = csv.DictWriter(buffer, list(rows[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


def comma(rows: list[Row], folder: Path) -> Source:
    return written(folder / "rows.csv", cells(rows, ","))


def semicolon(rows: list[Row], folder: Path) -> Source:
    return written(folder / "rows.csv", cells(rows, ";"))


def tab(rows: list[Row], folder: Path) -> Source:
    return written(folder / "rows.csv", cells(rows, "\t"))


def tsv(rows: list[Row], folder: Path) -> Source:
    return written(folder / "rows.TSV", cells(rows, "\t"))


def excel(rows: list[Row], folder: Path) -> Source:
    return written(folder / "rows.csv", "\ufeff" + cells(rows, ";"))


def pandas_csv(rows: list[Row], folder: Path) -> Source:
    pd.DataFrame(rows).to_csv(folder / "rows.csv")
    return folder / "rows.csv"


def parquet(rows: list[Row], folder: Path) -> Source:
    pq.write_table(pa.Table.from_pylist(full(rows)), folder / "rows.parquet")
    return folder / "rows.parquet"


def pandas_parquet(rows: list[Row], folder: Path) -> Source:
    pd.DataFrame(rows).to_parquet(folder / "rows.parquet")
    return folder / "rows.parquet"


def saved(rows: list[Row], folder: Path) -> Source:
    datasets.Dataset.from_list(full(rows)).save_to_disk(folder / "rows")
    return folder / "rows"


def saved_split(rows: list[Row], folder: Path) -> Source:
    half = datasets.Dataset.from_list([{"text": "other"}])
    datasets.DatasetDict(test=half, train=datasets.Dataset.from_list(full(rows))).save_to_disk(folder / "rows")
    return f"{folder / 'rows'}:train"


def shards(rows: list[Row], folder: Path) -> Source:
    (folder / "rows" / "data").mkdir(parents=True)
    found = pa.Table.from_pylist(full(rows))
    for number, part in enumerate((found.slice(0, 5), found.slice(5))):
        pq.write_table(part, folder / "rows" / "data" / f"train-0000{number}-of-00002.parquet")
    return folder / "rows"


def csv_in_a_folder(rows: list[Row], folder: Path) -> Source:
    (folder / "rows" / "train").mkdir(parents=True)
    comma(rows[:3], folder / "rows" / "train").rename(folder / "rows" / "train" / "a.csv")
    comma(rows[3:], folder / "rows" / "train").rename(folder / "rows" / "train" / "b.csv")
    return str(folder / "rows")


def written(path: Path, text: str) -> Path:
    path.write_bytes(text.encode())
    return path


FILES = [
    *(jsonl, jsonl_bom, array, wrapped, lines_named_json, comma, semicolon, tab, tsv, excel, pandas_csv, parquet),
    *(pandas_parquet, saved, saved_split, shards, csv_in_a_folder),
]
MEMORY: dict[str, Callable[[list[Row]], Source]] = {
    "list": list,
    "tuple": tuple,
    "examples": lambda rows: [
        Example(str(r["id"]), Completion(r["prompt"], r["completion"]), r["subject"]) for r in rows
    ],
    "Dataset": lambda rows: datasets.Dataset.from_list(full(rows)),
    "DatasetDict": lambda rows: datasets.DatasetDict(train=datasets.Dataset.from_list(full(rows))),
    "frame": pd.DataFrame,
    "frame by id": lambda rows: pd.DataFrame(rows).set_index("id"),
    "old frame": lambda rows: pd.DataFrame(rows).astype(object).where(pd.notna, float("nan")),
    "frame records": lambda rows: pd.DataFrame(rows).to_dict("records"),
    "Arrow": lambda rows: pa.Table.from_pylist(full(rows)),
}


@pytest.mark.parametrize("write", FILES, ids=lambda write: write.__name__)
def test_in_files_and_folders(
    write: Callable[[list[Row], Path], Source], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And nothing is left behind, in a cache or beside the source: no deletion would reach it."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    source = write(ROWS, tmp_path)
    kept = sorted(tmp_path.rglob("*"))
    found = read_rows(source)
    assert found.examples == EXPECTED
    assert set_digest(found.examples) == set_digest(EXPECTED)
    assert all(str(tmp_path / "rows") in example.where for example in found.examples)
    assert len({example.where for example in found.examples}) == len(ROWS)
    assert sorted(tmp_path.rglob("*")) == kept


@pytest.mark.parametrize("make", MEMORY.values(), ids=MEMORY)
def test_in_memory(make: Callable[[list[Row]], Source]) -> None:
    found = read_rows(make(ROWS), name="forget")
    assert found.examples == EXPECTED
    assert set_digest(found.examples) == set_digest(EXPECTED)
    assert found.notes == ()
    assert found.examples[2].where.endswith(" given as forget, row 3")


TURNS = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}]
OTHERS: dict[str, tuple[list[Row], Layout]] = {
    "two kinds, no ids": ([{"text": "a"}, {"prompt": "p", "completion": "c"}], Layout()),
    "some ids": ([{"id": 1, "text": "a"}, {"text": "b"}, {"id": 3, "text": "c"}], Layout()),
    "chats": ([{"id": "x", "messages": TURNS}, {"id": "y", "messages": TURNS[1:]}], Layout()),
    "ShareGPT": ([{"conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "yo"}]}], Layout()),
    "Alpaca": (
        [{"instruction": "a", "input": "", "output": "c"}, {"instruction": "a", "input": "b", "output": "c"}],
        Layout(),
    ),
    "Alpaca without some inputs": (
        [{"instruction": "a", "input": None, "output": "c"}, {"instruction": "a", "input": "b", "output": "c"}],
        Layout(),
    ),
    "own names": ([{"q": "a", "a": "b", "who": 7}], Layout({"prompt": "q", "completion": "a", "subject": "who"})),
    "tokens": ([{"id": 1, "input_ids": [1, 2]}, {"id": 2, "input_ids": [3, 4, 5]}], Layout(token_ids=True)),
}


@pytest.mark.parametrize(("rows", "layout"), OTHERS.values(), ids=OTHERS)
def test_every_kind_of_row(rows: list[Row], layout: Layout, tmp_path: Path) -> None:
    wanted = read_rows(jsonl(rows, tmp_path), layout).examples
    assert len(wanted) == len(rows)
    for write in (array, parquet, pandas_parquet, saved):
        (tmp_path / write.__name__).mkdir()
        assert read_rows(write(rows, tmp_path / write.__name__), layout).examples == wanted, write
    for name in ("list", "Dataset", "frame", "Arrow"):
        assert read_rows(MEMORY[name](rows), layout).examples == wanted, name


plain = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20).filter(str.strip)


@settings(max_examples=25)
@given(st.lists(st.tuples(plain, plain, st.none() | plain | st.integers()), min_size=1, max_size=5))
def test_any_text(tmp_path_factory: pytest.TempPathFactory, triples: list[tuple[str, str, str | int | None]]) -> None:
    folder = tmp_path_factory.mktemp("any")
    rows = [{"id": n, "prompt": p, "completion": c, "subject": s} for n, (p, c, s) in enumerate(triples)]
    wanted = [
        Example(
            str(r["id"]), Completion(r["prompt"], r["completion"]), None if r["subject"] is None else str(r["subject"])
        )
        for r in rows
    ]
    for write in (jsonl, array, comma, semicolon, tab, excel):
        assert read_rows(write(rows, folder)).examples == wanted, write.__name__
    assert read_rows(rows).examples == read_rows(pd.DataFrame(rows, dtype=object)).examples == wanted


def test_contents_alone_are_rows() -> None:
    contents = [Text("a"), Completion("p", "c")]
    assert read_rows(contents).examples == [Example(content_id(content), content) for content in contents]
