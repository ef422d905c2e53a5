"""Rows that are in memory: lists, ``datasets.Dataset``, pandas frames, Arrow tables. None of these is imported here."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, get_args

import numpy as np

from palimpsest.data.read.contents import PICTURE_COLUMNS, Row, checked, label_cell, shown
from palimpsest.data.read.layout import Layout, Source
from palimpsest.data.read.table import Table, names_in, numbered, refuse_twins
from palimpsest.errors import DataError, encodable, unknown
from palimpsest.records import Content, Example, content_id

_ACCEPTED = (
    "accepted: a path or Hub name, a list of dicts or of Examples, a datasets.Dataset, a pandas DataFrame or an Arrow "
    "table"
)
_ROW = "accepted: a dict or an Example; a text alone is {'text': ...}"


def describe_source(source: Source) -> str:
    """What a source is called in a record: its path, or what it is in memory.

    >>> describe_source([{"text": "a"}, {"text": "b"}])
    '2 rows in memory (list)'
    """
    if isinstance(source, str | os.PathLike):
        return os.fspath(source)
    if not hasattr(source, "__len__"):
        return f"in memory ({_kind(source)})"
    count = getattr(source, "num_rows", None)  # a DatasetDict counts by split
    if count is None and not hasattr(source, "__len__"):
        return f"a {_kind(source)}"  # nothing that can be read: whoever opens it says so
    number = sum(count.values()) if isinstance(count, dict) else len(source)
    return f"{number} row{'' if number == 1 else 's'} in memory ({_kind(source)})"


def _kind(source: object) -> str:
    library = type(source).__module__.partition(".")[0]
    prefix = "" if library == "builtins" else f"{library}."
    return f"{prefix}{type(source).__name__}"


def _is(source: object, module: str, *names: str) -> bool:
    """Is it one of these classes? Whoever has such an object has imported its module."""
    loaded = sys.modules.get(module)
    kinds = tuple(kind for name in names if isinstance(kind := getattr(loaded, name, None), type))
    return isinstance(source, kinds)


def open_memory(source: object, layout: Layout, name: str) -> Table:
    """Rows in memory.

    Args:
        source: anything but a path.
        layout: its split chooses from a DatasetDict.
        name: what it was given as, such as "forget".

    Raises:
        DataError: what it is instead.
    """
    given = f" given as {name}" if name else ""
    if _is(source, "datasets", "Dataset", "DatasetDict"):
        return _dataset(source, layout, f"the {type(source).__name__}{given}")
    if _is(source, "pandas", "DataFrame"):
        return _frame(source, f"the DataFrame{given}")
    if _is(source, "pyarrow", "Table"):
        return _arrow(source, f"the Arrow table{given}")
    if isinstance(source, list | tuple) and not hasattr(source, "_fields"):
        origin = f"the {type(source).__name__}{given}"
        return Table(origin, None, numbered(origin, map(_row, source)), pictures=True, null_ids=True)
    raise DataError(f"{name or 'the data'} is of type {_kind(source)}{_cure(source)}; {_ACCEPTED}")


def _cure(source: object) -> str:
    """What to do with what is almost rows."""
    if isinstance(source, Mapping) and any(isinstance(values, list | tuple | np.ndarray) for values in source.values()):
        return "; of columns give datasets.Dataset.from_dict(columns) or pandas.DataFrame(columns)"
    if isinstance(source, Example | Mapping):
        return "; one row is a list of one, [row]"
    if hasattr(source, "__next__") or _is(source, "datasets", "IterableDataset"):
        return "; give list(...) of it"
    return ""


def _row(row: object) -> Row | Example | DataError:
    try:
        return _read(row)
    except DataError as problem:
        return problem
    except RecursionError:
        return DataError("a value holds lists in lists without end; accepted: strings, integers and lists of them")


def _read(row: object) -> Row | Example:
    if isinstance(row, Example):
        return _checked(row)
    if isinstance(row, get_args(Content)):
        content = checked(row)
        return Example(content_id(content), content)
    if not isinstance(row, Mapping):
        raise DataError(f"{shown(row)} is of type {_kind(row)}; {_ROW}")
    strangers = [key for key in row if not isinstance(key, str)]
    if strangers:
        raise DataError(f"column {shown(strangers[0])} is no string; accepted: strings as names of columns")
    return {key: _plain(key, value) for key, value in row.items()}


def _checked(row: Example) -> Example:
    """An Example that a user made, if a row of it would be accepted; then it is what the row would give."""
    if not isinstance(row.id, str) or not row.id.strip():
        raise DataError(f"id is {shown(row.id)}; accepted: a string that is not empty")
    subject = None if row.subject is None or row.subject == "" else label_cell({"subject": row.subject}, "subject")
    return replace(row, id=encodable(row.id, "id"), content=checked(row.content), subject=subject)


def _plain(column: str, value: Any) -> Any:
    """A cell as JSON has it: NumPy's numbers are numbers, its arrays lists, and what is not there is None."""
    if type(value).__name__ in {"NAType", "NaTType"} or _is_nan(value):
        return None
    if isinstance(value, np.generic):
        return _plain(column, value.item())
    if column in PICTURE_COLUMNS:
        return value
    if isinstance(value, np.ndarray | tuple) and not hasattr(value, "_fields"):
        value = list(value)
    return [_plain("", item) for item in value] if isinstance(value, list) else value


def _dataset(source: Any, layout: Layout, origin: str) -> Table:
    settled: frozenset[str] = frozenset()
    if isinstance(source, dict):
        names = list(source)
        if layout.split is None and len(names) != 1:
            raise DataError(f"{origin}: has the splits {', '.join(names) or 'none'}; give one of them, or name a split")
        if layout.split is not None and layout.split not in names:
            raise DataError(f"{origin}: {unknown('split', layout.split, names)}")
        settled = frozenset({"split"} if layout.split else ())
        source = source[layout.split or names[0]]
    records = numbered(origin, map(_row, source.with_format(None)))
    columns = tuple(source.column_names)
    classes = names_in(source.features)
    return Table(origin, columns, records, pictures=True, class_names=classes, null_ids=True, settled=settled)


def _arrow(source: Any, origin: str) -> Table:
    columns = tuple(source.column_names)
    refuse_twins(columns, origin)
    return Table(origin, columns, numbered(origin, map(_row, source.to_pylist())), pictures=True, null_ids=True)


def _frame(source: Any, origin: str) -> Table:
    """A pandas frame. An index with a name is a column, as it is when pandas writes a file; any other is none."""
    if all(name is not None for name in source.index.names) and not set(source.index.names) & set(source.columns):
        source = source.reset_index()
    columns = tuple(map(str, source.columns))
    refuse_twins(columns, origin)
    cells = [source.iloc[:, number].tolist() for number in range(len(columns))]
    records = (dict(zip(columns, values, strict=True)) for values in zip(*cells, strict=True))
    return Table(origin, columns, numbered(origin, map(_row, records)), pictures=True, null_ids=True)


def _is_nan(value: object) -> bool:
    return isinstance(value, float) and math.isnan(value)
