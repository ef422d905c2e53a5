from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from palimpsest.data.read.examples import read_examples, set_digest
from palimpsest.errors import DataError
from palimpsest.records import Chat, Completion, Example, Message, Text, TokenIds, content_id

GOOD = '{"text": "fine"}\n'


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def write_jsonl(path: Path, *rows: Any) -> Path:
    return write(path, "".join(json.dumps(row) + "\n" for row in rows))


def write_parquet(path: Path, columns: dict[str, list[Any]]) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def message(source: Path | str, **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        read_examples(source, **options)
    text = str(caught.value)
    assert "\n" not in text
    assert str(source) in text
    return text


ROWS = [
    {"id": "a", "subject": "anna", "prompt": "Who?", "completion": " Me — «ü»\u2028."},
    {"id": "7", "subject": None, "prompt": 'Where,\n"here"?', "completion": " There."},
]
EXPECTED = [
    Example("a", Completion("Who?", " Me — «ü»\u2028."), "anna"),
    Example("7", Completion('Where,\n"here"?', " There."), None),
]


def test_the_same_rows_from_every_kind_of_source(tmp_path: Path) -> None:
    jsonl = write_jsonl(tmp_path / "f.jsonl", *ROWS)
    with (tmp_path / "f.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(ROWS[0]))
        writer.writeheader()
        writer.writerows(ROWS)
    parquet = write_parquet(tmp_path / "f.parquet", {key: [row[key] for row in ROWS] for key in ROWS[0]})
    folder = tmp_path / "dataset"
    folder.mkdir()
    write_jsonl(folder / "train.jsonl", *ROWS)
    for source in (jsonl, str(jsonl), tmp_path / "f.csv", parquet):
        assert read_examples(source) == EXPECTED, source
    assert read_examples(folder, split="train") == read_examples(str(folder), split="train") == EXPECTED


def test_crlf_and_a_missing_last_newline_are_read(tmp_path: Path) -> None:
    path = write(tmp_path / "f.jsonl", b'{"text": "a"}\r\n{"text": "b"}')
    assert [e.content for e in read_examples(path)] == [Text("a"), Text("b")]


def test_ids_are_kept_or_derived(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "f.jsonl", {"text": "a"}, {"id": 3, "text": "a"}, {"id": "x", "text": "a"})
    assert [e.id for e in read_examples(path)] == [content_id(Text("a")), "3", "x"]


def test_messages_and_conversational_completions_are_chats(tmp_path: Path) -> None:
    user, assistant = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}
    path = write_jsonl(
        tmp_path / "f.jsonl",
        {"id": 1, "messages": [user, assistant]},
        {"id": 2, "prompt": [user], "completion": [assistant]},
        {"id": 3, "messages": [user, {**assistant, "tool_calls": None}]},
    )
    chat = Chat((Message("user", "q"), Message("assistant", "a")))
    assert [e.content for e in read_examples(path)] == [chat, chat, chat]
    parquet = write_parquet(tmp_path / "f.parquet", {"messages": [[user, assistant]]})
    assert read_examples(parquet)[0].content == chat


def test_token_ids_only_on_request(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "f.jsonl", {"id": "a", "input_ids": [3, 0, 5]})
    assert read_examples(path, token_ids=True) == [Example("a", TokenIds((3, 0, 5)))]
    assert "--token-ids" in message(path)
    text = message(write(tmp_path / "t.jsonl", GOOD), token_ids=True)
    assert "the columns are 'text'; accepted: {input_ids}, with optional id and subject" in text


def test_ignored_columns_are_left_out(tmp_path: Path) -> None:
    path = write_jsonl(
        tmp_path / "f.jsonl", {"id": "a", "text": "t", "person": "p"}, {"id": "b", "text": "u", "kind": 1}
    )
    examples = read_examples(path, ignore_columns=frozenset({"person", "kind", "id"}))
    assert [e.id for e in examples] == [content_id(Text("t")), content_id(Text("u"))]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('{"text": }', "not JSON"),
        ('{"text": "a"', "not JSON"),
        ("[" * 100_000, "not JSON"),
        ('["a"]', "a JSON list; accepted: one JSON object per line"),
        ('{"text": NaN}', "NaN is not JSON"),
        ('{"text": "a", "text": "b"}', "key 'text' appears twice"),
        ("   ", "blank line"),
        ("", "blank line"),
        ('{"text": ""}', "text is empty"),
        ('{"text": " \\n"}', "text is empty"),
        ('{"text": 3}', "text is 3; accepted: a string"),
        ('{"text": null}', "text is None; accepted: a string"),
        ('{"text": "\\ud800"}', "half of a surrogate pair"),
        (
            '{"prompt": "a"}',
            "the columns are 'prompt'; accepted: {text} or {prompt, completion} or {messages}",
        ),
        ('{"prompt": "a", "completion": ""}', "completion is empty"),
        ('{"prompt": " ", "completion": "b"}', "prompt is empty"),
        (
            '{"text": "a", "prompt": "b", "completion": "c"}',
            "{text} and also prompt, completion; accepted: one kind",
        ),
        ('{"id": "a"}', "the columns are 'id'; accepted: {text} or"),
        (
            '{"txet": "a"}',
            "no column 'text'; did you mean 'txet'? then say --column text=txet; the columns are",
        ),
        ('{"text": "a", "prompt": "b"}', "holds {text} and also prompt; accepted: one kind of row"),
        ('{"id": "", "text": "a"}', "id is ''; accepted"),
        ('{"id": null, "text": "a"}', "id is None; accepted"),
        ('{"id": true, "text": "a"}', "id is True; accepted"),
        ('{"id": 1.5, "text": "a"}', "id is 1.5; accepted"),
        ('{"subject": [1], "text": "a"}', "subject is [1]; accepted"),
        ('{"messages": "hi"}', "messages is 'hi'; accepted: a list"),
        ('{"messages": []}', "no turn with role 'assistant'"),
        ('{"messages": ["hi"]}', "messages[0] is 'hi'"),
        ('{"messages": [{"role": "user"}]}', "messages[0] has no content"),
        ('{"messages": [{"role": "user", "content": "a"}]}', "no turn with role 'assistant'"),
        ('{"messages": [{"role": "user", "contents": "a"}]}', "unknown key 'contents'; did you mean 'content'?"),
        ('{"messages": [{"role": "assistant", "content": ""}]}', "messages[0].content is empty"),
        ('{"prompt": "a", "completion": [{"role": "assistant", "content": "b"}]}', "prompt is 'a'; accepted: a list"),
        (
            '{"prompt": [{"role": "assistant", "content": "a"}], "completion": []}',
            "prompt holds an assistant turn",
        ),
        (
            '{"prompt": [{"role": "user", "content": "a"}], "completion": [{"role": "user", "content": "b"}]}',
            "completion holds a turn that is not the assistant's",
        ),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, line: str, problem: str) -> None:
    text = message(write(tmp_path / "f.jsonl", GOOD + line + "\n" + '{"text": "other"}\n'))
    assert "f.jsonl, line 2: " in text
    assert problem in text
    assert "more bad row" not in text


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("[1, -2]", "input_ids[1] is -2; accepted: integers >= 0"),
        ("[1, 2.0]", "input_ids[1] is 2.0"),
        ("[true, 2]", "input_ids[0] is True"),
        ('["1", 2]', "input_ids[0] is '1'"),
        ("[1]", "at least 2 token ids"),
        ('"1 2"', "a list of at least 2 token ids"),
    ],
)
def test_bad_token_ids_are_named(tmp_path: Path, value: str, problem: str) -> None:
    path = write(tmp_path / "f.jsonl", f'{{"input_ids": {value}}}\n')
    text = message(path, token_ids=True)
    assert "line 1: " in text
    assert problem in text


def test_a_blank_line_before_a_row_may_be_a_lost_one(tmp_path: Path) -> None:
    text = message(write(tmp_path / "begin.jsonl", "\n" + '{"text": ""}\n'))
    assert "line 1: blank line" in text
    assert text.endswith("(and 1 more bad row)")


def test_the_first_bad_row_is_reported_and_the_others_counted(tmp_path: Path) -> None:
    path = write(tmp_path / "f.jsonl", GOOD + '{"text": ""}\nnonsense\n{"text": 1}\n')
    assert "line 2: text is empty" in message(path)
    assert message(path).endswith("(and 2 more bad rows)")


def test_invalid_utf8_names_its_row(tmp_path: Path) -> None:
    assert "line 2: byte 11 is not UTF-8" in message(write(tmp_path / "f.jsonl", GOOD.encode() + b'{"text": "\xff"}\n'))
    assert "line 3: byte 1 is not UTF-8" in message(write(tmp_path / "f.csv", b"text\na\n\xff\n"))


def test_duplicate_ids_name_both_rows(tmp_path: Path) -> None:
    given = write_jsonl(tmp_path / "g.jsonl", {"id": 1, "text": "a"}, {"id": "1", "text": "b"})
    assert "line 2: id '1' is already the id of line 1" in message(given)
    derived = write_jsonl(tmp_path / "d.jsonl", {"text": "a"}, {"text": "b"}, {"text": "a"})
    assert "line 3: the same content as line 1" in message(derived)


@pytest.mark.parametrize("suffix", [".jsonl", ".csv"])
def test_an_empty_file_is_refused(tmp_path: Path, suffix: str) -> None:
    assert "the file is empty" in message(write(tmp_path / f"e{suffix}", "\n"))
    assert "the file is empty" in message(write(tmp_path / f"b{suffix}", "\ufeff\n"))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("text\na\n\nb\n", "line 3: blank row"),
        ("text,id\na,1\n,2\n", "line 3: text is empty"),
        ("text,id\na,1\nb,\n", "line 3: id is ''"),
        ("text\na,b\n", "line 2: 2 cells; accepted: 1"),
        ("text,id\na\n", "line 2: 1 cells; accepted: 2"),
        ('text\n"a" b\n', "line 2: not CSV"),
        ('text\na\n"open\n', "line 3: not CSV"),
        ("text,text\na,b\n", "line 1: column 'text' appears twice"),
        (
            "prompt|completion\na|b\n",
            "header: the columns are 'prompt|completion'; accepted: {text} or {prompt,",
        ),
        ("messages\na\n", "header: the columns are 'messages'; 'messages' is a list, which CSV cannot hold: use JSONL"),
        ("text\n", "no rows"),
    ],
)
def test_bad_csv_is_named(tmp_path: Path, content: str, problem: str) -> None:
    assert problem in message(write(tmp_path / "f.csv", content))


def test_an_empty_subject_cell_is_no_subject(tmp_path: Path) -> None:
    assert read_examples(write(tmp_path / "f.csv", "text,subject\na,\nb,x\n"))[0].subject is None


def test_a_parquet_column_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    twins = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["text", "text"])
    pq.write_table(twins, tmp_path / "twins.parquet")
    assert "column 'text' appears twice; keep one" in message(tmp_path / "twins.parquet")


def test_bad_parquet_is_named(tmp_path: Path) -> None:
    assert "row 2: text is None" in message(write_parquet(tmp_path / "n.parquet", {"text": ["a", None]}))
    assert "row 1: text is nan" in message(write_parquet(tmp_path / "f.parquet", {"text": [float("nan")]}))
    assert "header: no column 'text'; did you mean 'body'?" in message(
        write_parquet(tmp_path / "u.parquet", {"body": ["a"]})
    )
    assert "not a readable Parquet file" in message(write(tmp_path / "x.parquet", "nonsense"))
    assert "no rows" in message(write_parquet(tmp_path / "e.parquet", {"text": pa.array([], pa.string())}))


def test_wrong_places_are_named(tmp_path: Path) -> None:
    assert "no such file" in message(tmp_path / "missing.jsonl")
    assert "no such file" in message(str(tmp_path / "missing"))
    assert "unknown extension '.txt'; accepted: a .jsonl or .json or .csv or .tsv or .parquet or .npz file" in message(
        write(tmp_path / "f.txt", "a")
    )
    (tmp_path / "empty").mkdir()
    assert "is a folder without rows" in message(tmp_path / "empty")
    assert "is a folder without rows" in message(tmp_path / "empty", split="train")
    for option in ("split", "revision"):
        assert f"{option} 'x' has nothing to choose from" in message_for(
            str(write(tmp_path / "f.jsonl", GOOD)), **{option: "x"}
        )


def test_splits_of_a_dataset_folder(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "train.jsonl", {"text": "a"})
    write_jsonl(tmp_path / "test.jsonl", {"text": "b"}, {"text": ""})
    assert [e.content for e in read_examples(tmp_path, split="train")] == [Text("a")]
    assert "test.jsonl, line 2: text is empty" in message(tmp_path, split="test")
    assert "unknown split 'nonsense'; accepted: test, train" in message(tmp_path, split="nonsense")


def test_hub_names_are_asked_for_and_errors_kept_to_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def refuse(*args: Any, **options: Any) -> Any:
        asked.append((args, options))
        raise ConnectionError("Couldn't reach\nthe Hub")

    monkeypatch.setattr("palimpsest.data.read.tables.is_reachable", lambda: True)
    monkeypatch.setattr(datasets, "load_dataset", refuse)
    assert "Couldn't reach the Hub" in message_for("owner/name:config", split="train", revision="abc")
    monkeypatch.setattr(datasets, "load_dataset", lambda *a, **o: datasets.IterableDatasetDict(b=None, a=None))
    assert "has the splits a, b; name one with --split" in message_for("owner/name")
    assert asked == [(("owner/name", "config"), {"split": "train", "revision": "abc", "streaming": True})]


def test_a_hub_name_without_a_network_is_refused_before_its_client_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(datasets, "load_dataset", lambda *args, **options: pytest.fail("went to the network"))
    assert "owner/name: no such file, and as the name of a Hub dataset: the Hub cannot be" in message_for("owner/name")


@pytest.mark.parametrize("source", ["visits", "owner/visits.jsonl", "owner/visits.txt", "tests/visits"])
def test_a_mistyped_path_never_travels_to_the_hub(source: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tests").mkdir()
    monkeypatch.setattr(datasets, "load_dataset", lambda *args, **options: pytest.fail("went to the network"))
    assert "no such file" in message(source)


def message_for(source: str, **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        read_examples(source, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_set_digest_sees_ids_contents_and_order() -> None:
    a, b = Example("1", Text("x")), Example("2", Text("y"))
    assert set_digest([a, b]) != set_digest([b, a])
    others = [
        [a],
        [a, Example("2", Text("z"))],
        [a, Example("3", Text("y"))],
        [Example("1", Text("y")), Example("2", Text("x"))],
    ]
    assert len({set_digest([a, b]), *(set_digest(other) for other in others)}) == 5


@pytest.mark.shared
def test_real_rows(shared_data: Path) -> None:
    path = shared_data / "knowundo-privacy" / "qa.jsonl"
    assert (
        "line 1: no column 'prompt'; did you mean 'question'? then say --column prompt=question --column comp"
        in message(path)
    )
    assert "more bad rows" in message(path)
    columns = {"prompt": "question", "completion": "answer", "subject": "person"}
    examples = read_examples(path, columns=columns)
    assert examples[4].where == f"{path}, line 5"
    assert all(example.subject for example in examples)
