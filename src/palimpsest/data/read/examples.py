"""Any source of rows -> examples with ids. All or nothing: one bad row refuses the whole source."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from palimpsest.data.read.folders import find_split
from palimpsest.data.read.layout import Layout, Rows, Source, as_arguments, check_used
from palimpsest.data.read.memory_rows import open_memory
from palimpsest.data.read.picture_folder import is_image_folder, read_image_folder
from palimpsest.data.read.pictures import read_npz
from palimpsest.data.read.shapes import RowReader, accepted, shapes_for
from palimpsest.data.read.table import Table
from palimpsest.data.read.tables import open_table
from palimpsest.errors import DataError, reachable
from palimpsest.records import Example, Image, content_id, digest

_AS_IT_IS = Layout()


def read_examples(
    source: Source,
    *,
    split: str | None = None,
    revision: str | None = None,
    token_ids: bool = False,
    ignore_columns: frozenset[str] = frozenset(),
    columns: Mapping[str, str] = MappingProxyType({}),
) -> list[Example]:
    """Examples of one source: ``read_rows``, without its notes, for a source that stands alone.

    Args:
        source: of ``read_rows``.
        split: of a dataset folder or Hub dataset.
        revision: commit or tag of a Hub dataset.
        token_ids: rows are ``{input_ids}`` instead: ready-made tokens.
        ignore_columns: columns to leave out.
        columns: our name -> the source's column.

    Raises:
        DataError: of ``read_rows``; or a split, revision or column that this source does not have.
    """
    layout = Layout(columns, ignore_columns, split, revision, token_ids)
    rows = read_rows(source, layout)
    check_used(layout, [rows])
    return rows.examples


def read_rows(source: Source, layout: Layout = _AS_IT_IS, *, name: str = "") -> Rows:
    """Examples of a file, a folder, a Hub dataset or of rows in memory.

    | source            | what                                                                                     |
    |-------------------|------------------------------------------------------------------------------------------|
    | file              | .jsonl, .json, .csv (comma, semicolon or tab), .tsv, .parquet, all UTF-8; .npz of images |
    | folder            | of ``save_to_disk``, of files (folders.py), of pictures (pictures.py)                    |
    | FOLDER:SPLIT      | one split of a folder; needed when it has several                                        |
    | owner/name        | Hub dataset, with :config if it has several                                              |
    | in memory         | list of dicts, Examples or contents; datasets.Dataset; pandas frame; Arrow table         |

    Rows are ``{text}``, ``{prompt, completion}`` (strings, or lists of turns), ``{messages}``, Alpaca's
    ``{instruction, input, output}``, ShareGPT's ``{conversations}`` or ``{image, label}``, each with optional ``id``
    and ``subject``. A given id is kept; otherwise it is the SHA-256 of the content. Other columns are left out. The
    same rows give the same examples, whatever they come from.

    Args:
        source: one of the above.
        layout: names of columns, and what to choose from the source.
        name: what the source was given as, such as "forget", for messages about rows in memory.

    Returns:
        Examples in the order of the source, each with its place, ids unique; and what the user should be told.

    Raises:
        DataError: file and line, what is wrong, what is accepted, and how many more rows are bad.
    """
    rows = _read(source, layout.of(name), name)
    return rows._replace(mapped=layout.typed(name, rows.mapped))


def _read(source: Source, layout: Layout, name: str) -> Rows:
    if not isinstance(source, str | os.PathLike):
        return _from_memory(source, layout, name)
    reachable(source, name or "data")
    path = Path(source)
    if not layout.token_ids:
        if path.suffix.lower() == ".npz" and path.is_file():
            rows = read_npz(path, layout)
            return rows._replace(examples=_once(str(path), rows.examples))
        pictures = _folder_of_pictures(source, layout)
        if pictures is not None:
            rows = read_image_folder(pictures)
            settled = frozenset({"split"} if layout.split and pictures == path / layout.split else ())
            return rows._replace(examples=_once(str(pictures), rows.examples), settled=settled)
    return _from_table(open_table(source, layout), layout)


def _folder_of_pictures(source: str | os.PathLike[str], layout: Layout) -> Path | None:
    """The folder whose sub-folders are classes of pictures: a source, or a split of one; None where it is none.

    A split is read by the same rule as a folder, and not as ``datasets`` would: it passes over files, and numbers the
    classes by their order where the model has their names.
    """
    path = Path(source)
    named = find_split(source)
    if named is not None:
        path = named[0] / named[1]
    elif path.is_dir() and layout.split and (path / layout.split).is_dir():
        path = path / layout.split
    return path if path.is_dir() and is_image_folder(path) else None


def _from_memory(source: Source, layout: Layout, name: str) -> Rows:
    """Rows in memory, of which nobody reads who types options."""
    try:
        rows = _from_table(open_memory(source, layout, name), layout)
    except DataError as problem:
        raise DataError(as_arguments(str(problem))) from problem
    return rows._replace(notes=tuple(map(as_arguments, rows.notes)))


def _from_table(table: Table, layout: Layout) -> Rows:
    shapes = shapes_for(
        token_ids_only=layout.token_ids, cells_only=table.cells_only, pictures=table.pictures, labels=layout.labels
    )
    reader = RowReader(shapes, layout, null_ids=table.null_ids)
    if table.columns is not None:
        try:
            reader.check_header(table.columns)
        except DataError as problem:
            raise DataError(f"{table.origin}, header: {problem}") from problem
    claims = _Claims()
    names = table.class_names.get(layout.columns.get("label", "label"), ())
    for where, row in table.rows:
        try:
            if isinstance(row, DataError):
                raise row
            example = row if isinstance(row, Example) else _spelled(reader.example(row), names)
            claims.add(example if example.where else replace(example, where=where))
        except DataError as problem:
            claims.problems.append((where, problem))
    examples = claims.examples(f"{table.origin}: no rows; {accepted(shapes)}")
    notes = tuple(f"{table.origin}: {note}" for note in reader.notes())
    return Rows(examples, notes, tuple(reader.seen), frozenset(reader.mapped), table.settled)


def _spelled(example: Example, names: Sequence[str]) -> Example:
    """An example with the name that its source gives the number of its class, if it gives one."""
    image = example.content
    if not isinstance(image, Image) or not isinstance(image.label, int) or image.label >= len(names):
        return example
    return replace(example, content=replace(image, spelled=names[image.label]))


def _once(origin: str, examples: Sequence[Example]) -> list[Example]:
    """Examples of a source whose ids are unique."""
    claims = _Claims()
    for example in examples:
        try:
            claims.add(example)
        except DataError as problem:
            claims.problems.append((example.where, problem))
    return claims.examples(f"{origin}: no rows")


class _Claims:
    """Which row holds which id, and what was wrong with the others."""

    def __init__(self) -> None:
        self._by_id: dict[str, Example] = {}
        self.problems: list[tuple[str, DataError]] = []

    def add(self, example: Example) -> None:
        """Take an example; refuse a second one of the same id."""
        earlier = self._by_id.get(example.id)
        if earlier is None:
            self._by_id[example.id] = example
            return
        place = _beside(earlier.where, example.where)
        if example.id == content_id(example.content):
            raise DataError(f"the same content as {place}; remove one, or give both an id")
        raise DataError(f"id {example.id!r} is already the id of {place}; accepted: ids that occur once")

    def examples(self, none: str) -> list[Example]:
        """All that were taken.

        Raises:
            DataError: the first problem and how many more; or that there are no rows.
        """
        if self.problems:
            where, problem = self.problems[0]
            more = len(self.problems) - 1
            also = f" (and {more} more bad row{'s' if more > 1 else ''})" if more else ""
            raise DataError(f"{where}: {problem}{also}") from problem
        if not self._by_id:
            raise DataError(none)
        return list(self._by_id.values())


def _beside(where: str, other: str) -> str:
    """A place as it is called in a message about another one: without the file, if it is the same.

    >>> _beside("people.jsonl, line 3", "people.jsonl, line 9")
    'line 3'
    """
    file, sign, place = where.rpartition(", ")
    return place if sign and file == other.rpartition(", ")[0] else where


def set_digest(examples: Sequence[Example]) -> str:
    """SHA-256 that names a set: its ids and contents, in their order, by which examples are drawn.

    >>> from palimpsest.records import Text
    >>> a, b = Example("1", Text("x")), Example("2", Text("y"))
    >>> set_digest([a, b]) == set_digest([b, a])
    False
    """
    return digest([[example.id, content_id(example.content)] for example in examples])
