"""JSON lines, JSON and CSV -> rows with the lines they are on."""

from __future__ import annotations

import codecs
import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from palimpsest.data.read.contents import Row
from palimpsest.data.read.shapes import CONTENT_COLUMNS
from palimpsest.data.read.table import Table, numbered, refuse_twins
from palimpsest.errors import DataError
from palimpsest.untrusted import parse_json

_LINE = "accepted: one JSON object per line"
_ARRAY = 'accepted: a list of objects, {"data": [...]} or one JSON object per line'
_DELIMITERS = (",", ";", "\t")


def read_text(path: Path) -> str:
    """The text of a file without its byte order mark.

    Raises:
        DataError: it cannot be read, is empty or is not UTF-8; then the line, and how to convert it.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); give a readable file") from error
    if data.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        raise DataError(f"{path}: is UTF-32; {_cure(path, 'UTF-32')}")
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise DataError(f"{path}: is UTF-16; {_cure(path, 'UTF-16')}")
    data = data.removeprefix(codecs.BOM_UTF8)
    if not data.strip():
        raise DataError(f"{path}: the file is empty; give at least one row")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        byte = error.start - data.rfind(b"\n", 0, error.start)
        # Windows-1252 is what Excel and old exports write, and Latin-1 is a part of it.
        raise DataError(f"{path}, line {line}: byte {byte} is not UTF-8; {_cure(path, 'WINDOWS-1252')}") from error


def _cure(path: Path, encoding: str) -> str:
    return f"save it as UTF-8, or: iconv -f {encoding} -t UTF-8 {path.name} > utf8_{path.name}"


def read_jsonl(path: Path) -> Table:
    """A file of one JSON object per line.

    Raises:
        DataError: it is one list, as files called .json hold it.
    """
    text = read_text(path)
    if text.lstrip().startswith("["):
        raise DataError(f"{path}, line 1: a JSON list; {_LINE}; a list is read from a file that is called .json")
    return Table(str(path), None, _json_lines(path, text))


def read_json(path: Path) -> Table:
    """A file of one list of objects, of one object that holds such a list as "data", or of JSON lines.

    Raises:
        DataError: it is none of these.
    """
    text = read_text(path)
    try:
        value = _parsed(text)
    except json.JSONDecodeError as error:
        # A second value behind the first: JSON lines under the other name.
        if text.lstrip()[:1] == "{" and error.msg == "Extra data":
            return Table(str(path), None, _json_lines(path, text))
        raise DataError(f"{path}, line {error.lineno}: not JSON ({error.msg}); {_ARRAY}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not JSON ({error}); {_ARRAY}") from error
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    return Table(str(path), None, numbered(str(path), [_object(row) for row in _list_in(path, value)]))


def _list_in(path: Path, value: Any) -> list[Any]:
    if isinstance(value, list):
        return value
    if isinstance(value, dict):
        inner = value.get("data")
        if isinstance(inner, list):
            return inner
        if value and all(isinstance(cells, dict) for cells in value.values()):
            raise DataError(f"{path}: an object of columns; {_ARRAY}; from pandas: to_json(orient='records')")
        if CONTENT_COLUMNS & set(value):
            return [value]
        raise DataError(f"{path}: a JSON object with {', '.join(map(repr, value)) or 'nothing'}; {_ARRAY}")
    raise DataError(f"{path}: a JSON {type(value).__name__}; {_ARRAY}")


def _object(value: Any) -> Row | DataError:
    return value if isinstance(value, dict) else DataError(f"a JSON {type(value).__name__}; accepted: an object")


def _json_lines(path: Path, text: str) -> Iterator[tuple[str, Row | DataError]]:
    lines = _to_last_row(text).removesuffix("\n").split("\n")
    return ((f"{path}, line {number}", _json_line(line)) for number, line in enumerate(lines, 1))


def _to_last_row(text: str) -> str:
    r"""Without the blank lines that editors and spreadsheets leave at the end; one between rows may be a lost row.

    >>> _to_last_row("a\t\r\n \n\n")
    'a\t\r\n'
    """
    end = text.find("\n", len(text.rstrip()))
    return text if end < 0 else text[: end + 1]


def _json_line(line: str) -> Row | DataError:
    if not line.strip():
        return DataError(f"blank line; {_LINE}")
    try:
        value = _parsed(line)
    except DataError as error:
        return error
    except json.JSONDecodeError as error:
        return DataError(f"not JSON ({error.msg} at character {error.pos + 1}); {_LINE}")
    except (ValueError, RecursionError) as error:
        return DataError(f"not JSON ({error}); {_LINE}")
    return value if isinstance(value, dict) else DataError(f"a JSON {type(value).__name__}; {_LINE}")


def _parsed(text: str) -> Any:
    return parse_json(text, object_pairs_hook=_unique_keys, parse_constant=_refuse_constant)


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError(f"key {twice!r} appears twice in one object; keep one")
    return row


def _refuse_constant(name: str) -> None:
    raise DataError(f"{name} is not JSON; accepted: strings, integers and lists of them")


def read_csv(path: Path) -> Table:
    """A CSV file whose header says what its cells are, and by what they are divided.

    Raises:
        DataError: it is no CSV, or a column appears twice.
    """
    text = read_text(path)
    delimiter = "\t" if path.suffix.lower() == ".tsv" else delimiter_of(text.partition("\n")[0])
    reader = csv.reader(io.StringIO(_to_last_row(text), newline=""), delimiter=delimiter, strict=True)
    records = _csv_records(path, reader, len(text))
    _, cells = next(records)
    header = [name.strip() for name in cells]
    if not header:
        raise DataError(f"{path}, line 1: blank; accepted: the names of the columns in the first line")
    refuse_twins(header, f"{path}, line 1")
    rows = ((f"{path}, line {line}", _cells(header, record, delimiter)) for line, record in records)
    return Table(str(path), tuple(header), rows, cells_only=True)


def delimiter_of(header: str) -> str:
    r"""What divides the cells: of comma, semicolon and tab the one that is most often in the header, outside quotes.

    Contents are not looked at, so it never depends on what a text happens to hold.

    >>> delimiter_of('id;"first, second";text')
    ';'
    >>> delimiter_of("text")
    ','
    """
    outside = "".join(header.split('"')[::2])
    return max(_DELIMITERS, key=outside.count)


def _csv_records(path: Path, reader: Any, longest: int) -> Iterator[tuple[int, list[str]]]:
    """Records with the lines on which they begin: a cell may hold line breaks, and be as long as the file."""
    line = 1
    while True:
        usual = csv.field_size_limit(longest)  # of the whole process: as it was whenever others read
        try:
            record = next(reader, None)
        except csv.Error as error:
            raise DataError(f"{path}, line {line}: not CSV ({error}); use JSONL for long or odd texts") from error
        finally:
            csv.field_size_limit(usual)
        if record is None:
            return
        yield line, record
        line = reader.line_num + 1


def _cells(header: list[str], record: list[str], delimiter: str) -> Row | DataError:
    if not record:
        return DataError("blank row; remove it")
    if len(record) != len(header):
        name = {",": "commas", ";": "semicolons"}.get(delimiter, "tabs")
        return DataError(f"{len(record)} cells; accepted: {len(header)}, as in the header; quote cells with {name}")
    return dict(zip(header, record, strict=True))
