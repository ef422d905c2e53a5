"""JSON and CSV as people send them; what cannot be read is refused by file and line, with the cure."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from palimpsest.data.read.examples import read_rows
from palimpsest.data.read.plain_files import delimiter_of
from palimpsest.errors import DataError
from palimpsest.records import Completion, Text


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    ("header", "delimiter"),
    [
        ("text", ","),
        ("id,text", ","),
        ("id;text", ";"),
        ("id\ttext", "\t"),
        ('"a,b,c";text', ";"),
        ('id;"say ""a,b,c,d""";text', ";"),
        ("id;text,long;subject", ";"),
        ("id,text;long", ","),
    ],
)
def test_the_header_says_what_divides_cells(header: str, delimiter: str) -> None:
    assert delimiter_of(header) == delimiter


def test_what_divides_cells_is_not_guessed_from_contents(tmp_path: Path) -> None:
    path = write(tmp_path / "f.csv", "text;id\na,b,c,d\te\tf;1\n")
    assert read_rows(path).examples[0].content == Text("a,b,c,d\te\tf")
    assert read_rows(write(tmp_path / "one.csv", "text\na;b\tc\n")).examples[0].content == Text("a;b\tc")
    with pytest.raises(DataError, match=r"line 2: 2 cells; accepted: 1, as in the header; quote cells with commas"):
        read_rows(write(tmp_path / "two.csv", "text\na,b\n"))
    with pytest.raises(DataError, match=r"line 2: 3 cells; accepted: 2, as in the header; quote cells with semicolons"):
        read_rows(write(tmp_path / "two.csv", "id;text\n1;a;b\n"))


def test_rows_are_on_the_lines_where_they_begin(tmp_path: Path) -> None:
    path = write(tmp_path / "f.csv", 'id,text\r\n1,"two\r\nlines"\r\n2,"three\n\nlines"\n3,one\n')
    assert [e.where for e in read_rows(path).examples] == [f"{path}, line {n}" for n in (2, 4, 7)]
    with pytest.raises(DataError, match=r"f.csv, line 8: id '1' is already the id of line 2;"):
        read_rows(write(path, path.read_bytes() + b"1,again\n"))
    lines = write(tmp_path / "f.jsonl", '{"text": "a"}\n{"text": "b\u2028\x85c"}\n{"text": "d"}\n')
    assert [e.where for e in read_rows(lines).examples] == [f"{lines}, line {n}" for n in (1, 2, 3)]
    array = write(tmp_path / "f.json", '[\n\n{"text": "a"},\n\n{"text": "b"}]')
    assert [e.where for e in read_rows(array).examples] == [f"{array}, row {n}" for n in (1, 2)]


def test_the_columns_of_an_index_are_left_out_with_a_note(tmp_path: Path) -> None:
    for header in (",text", "Unnamed: 0,text"):
        rows = read_rows(write(tmp_path / "f.csv", f"{header}\n0,a\n"))
        name = header.partition(",")[0] or "the unnamed"
        assert (rows.notes, rows.examples[0].content) == (
            (f"{tmp_path / 'f.csv'}: columns left out: {name}",),
            Text("a"),
        )


def test_a_single_object_is_one_row(tmp_path: Path) -> None:
    assert len(read_rows(write(tmp_path / "f.json", '{"text":\n "a"}')).examples) == 1
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    assert len(read_rows(write(tmp_path / "f.json", json.dumps({"messages": turns}))).examples) == 1


GRUEN = "text,id\nGrün,1\n"


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("f.csv", GRUEN.encode("latin-1"), "f.csv, line 2: byte 3 is not UTF-8; save it as UTF-8, or: iconv -f WINDOW"),
        ("f.tsv", "text\nGr\x80n\n".encode("latin-1"), "-f WINDOWS-1252 -t UTF-8 f.tsv > utf8_f.tsv"),
        ("f.jsonl", '{"text": "a"}\n{"text": "é"}\n'.encode("cp1252"), "f.jsonl, line 2: byte 11 is not UTF-8; save"),
        ("f.json", '[{"text": "a"},\n {"text": "é"}]\n'.encode("cp1252"), "f.json, line 2: byte 12 is not UTF-8; save"),
        ("f.csv", GRUEN.encode("utf-16"), "f.csv: is UTF-16; save it as UTF-8, or: iconv -f UTF-16 -t UTF-8 f.csv"),
        ("f.csv", GRUEN.encode("utf-32"), "f.csv: is UTF-32; save it as UTF-8, or: iconv -f UTF-32 -t UTF-8 f.csv"),
        ("f.json", "[]".encode("utf-16-be").join([b"\xfe\xff", b""]), "f.json: is UTF-16"),
        ("f.csv", "\ntext\na\n", "f.csv, line 1: blank; accepted: the names of the columns in the first line"),
        ("f.jsonl", '[\n{"text": "a"}\n]', "f.jsonl, line 1: a JSON list; accepted: one JSON object per line; a "),
        ("f.csv", "text, text\na,b\n", "f.csv, line 1: column 'text' appears twice"),
        ("f.json", "", "the file is empty"),
        ("f.json", "[]", "no rows; accepted: {text} or"),
        ("f.json", "3", "a JSON int; accepted: a list of objects"),
        ("f.json", '[{"text": "a"},\n{"text":}]', "f.json, line 2: not JSON (Expecting value); accepted: a list of ob"),
        ("f.json", '{"text": "a"}\n{"text":}', "f.json, line 2: not JSON (Expecting value at character 9)"),
        ("f.json", '[{"text": "a"}, 3, "b"]', "f.json, row 2: a JSON int; accepted: an object (and 1 more bad row)"),
        ("f.json", '[{"text": NaN}]', "f.json: NaN is not JSON"),
        ("f.json", '[{"text": "a", "text": "b"}]', "f.json: key 'text' appears twice in one object"),
        ("f.json", "[" * 100_000, "f.json, line 1: not JSON (more than 100 lists and objects in each other"),
        ("f.json", "\x1f", "f.json, line 1: not JSON"),  # a blank to Python, and none to JSON
        ("f.json", '{"model_type": "llama"}', "a JSON object with 'model_type'; accepted: a list of objects"),
        ("f.json", '{"text": {"0": "a"}}', "an object of columns; .* from pandas: to_json(orient='records')"),
        ("f.xlsx", "x", "unknown extension '.xlsx', a spreadsheet; save the sheet as CSV (UTF-8); accepted: a .jsonl"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused(tmp_path: Path, name: str, content: str | bytes, problem: str) -> None:
    with pytest.raises(DataError) as caught:
        read_rows(write(tmp_path / name, content))
    assert all(part in str(caught.value) for part in problem.split(" .* "))
    assert "\n" not in str(caught.value)


def test_a_sheet_that_ends_in_columns_without_names_is_read(tmp_path: Path) -> None:
    (tmp_path / "f.csv").write_text("prompt;completion;;\na;b;;\n")
    rows = read_rows(tmp_path / "f.csv")
    assert [e.content for e in rows.examples] == [Completion("a", "b")]
    assert rows.notes == (f"{tmp_path / 'f.csv'}: columns left out: the unnamed",)
