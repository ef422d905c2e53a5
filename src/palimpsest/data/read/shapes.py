"""Which kind of row some columns make. The accepted columns are written here and nowhere else."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from difflib import get_close_matches
from functools import cache
from itertools import chain
from types import MappingProxyType

from palimpsest.data.read.contents import (
    PICTURE_COLUMNS,
    Builder,
    Row,
    completion,
    conversation,
    instruction,
    label_cell,
    labelled,
    labelled_text,
    plain_text,
    token_ids,
)
from palimpsest.data.read.layout import NAMES, Layout
from palimpsest.errors import DataError
from palimpsest.records import Content, Example, content_id

Shape = tuple[str, ...]
Shapes = Mapping[Shape, Builder]

OPTIONAL = ("id", "subject")
# Columns that are never left out unasked: beside another kind of row they are a question, not an extra.
_DECISIVE = frozenset({"text", "prompt", "completion", "messages"})
_LISTS = ("messages", "conversations", "input_ids")
CONTENT_COLUMNS = frozenset({*_DECISIVE, *PICTURE_COLUMNS, "instruction", "conversations", "input_ids"})
_USUAL = {  # what others call these columns, for hints only
    "prompt": ("question", "query", "instruction", "input", "q"),
    "completion": ("answer", "response", "output", "target", "chosen", "a"),
    "text": ("content", "body", "sentence", "document"),
    "messages": ("conversation", "conversations", "chat", "dialog"),
    "image": ("picture", "photo", "pixels"),
    "label": ("class", "target", "fine_label"),
    "subject": ("person", "patient", "user", "author", "entity"),
    "id": ("uid", "key", "row_id"),
}


def shapes_for(*, token_ids_only: bool, cells_only: bool, pictures: bool, labels: bool = False) -> Shapes:
    """Kinds of rows that are accepted, each with what turns it into a content.

    Args:
        token_ids_only: accept rows of token ids, and nothing else.
        cells_only: the file holds plain cells (CSV), so lists cannot occur.
        pictures: the source can hold pictures (Parquet, datasets, rows in memory).
        labels: accept texts with a label, and nothing else.
    """
    if labels:
        return MappingProxyType({("text", "label"): labelled_text})
    if token_ids_only:
        return MappingProxyType({("input_ids",): token_ids})
    found: dict[Shape, Builder] = {("text",): plain_text, ("prompt", "completion"): completion}
    if not cells_only:
        found[("messages",)] = conversation("messages")
    if pictures:
        found |= {(column, "label"): labelled(column) for column in PICTURE_COLUMNS}
    found |= {("instruction", "output"): instruction, ("instruction", "input", "output"): instruction}
    if not cells_only:
        found[("conversations",)] = conversation("conversations")
    return MappingProxyType(found)


def accepted(shapes: Shapes) -> str:
    """The kinds as one phrase for a message; each in its fullest form."""
    full = [shape for shape in _largest(shapes) if "img" not in shape]
    return f"accepted: {' or '.join(map(_braced, full))}, with optional id and subject"


def _largest(shapes: Collection[Shape]) -> list[Shape]:
    """Those that are no part of another one."""
    return [shape for shape in shapes if not any(set(shape) < set(other) for other in shapes)]


def _braced(shape: Iterable[str]) -> str:
    return "{" + ", ".join(shape) + "}"


def shape_of(names: Collection[str], shapes: Shapes) -> Shape:
    """The kind of row that these columns make; columns it has no use for do not count.

    Raises:
        DataError: they make none, or two kinds are mixed.
    """
    largest = _largest([shape for shape in shapes if set(shape) <= set(names)])
    if not largest:
        raise DataError(_none_fits(names, shapes))
    chosen = largest[0]
    others = set(chain.from_iterable(largest[1:]))
    if ("input_ids",) not in shapes:
        others |= _DECISIVE & set(names)
    rest = [name for name in names if name in others and name not in chosen]
    if rest:
        raise DataError(
            f"holds {_braced(chosen)} and also {', '.join(rest)}; accepted: one kind of row, so keep the first with "
            f"{_ignored(rest)}, or leave it out with {_ignored(chosen)}"
        )
    return chosen


def _ignored(names: Iterable[str]) -> str:
    return " ".join(f"--ignore-column {name}" for name in names)


def _an_example(names: Collection[str], shapes: Shapes) -> str:
    """Such as "prompt=question": one of our columns that is taken here."""
    taken = [name for shape in shapes if set(shape) <= set(NAMES) for name in shape]
    return "prompt=question" if "prompt" in taken or not (names and taken) else f"{taken[0]}={next(iter(names))}"


def _none_fits(names: Collection[str], shapes: Shapes) -> str:
    have = f"the columns are {', '.join(map(repr, names))}" if names else "there are no columns"
    unread = _unread_list(names, shapes)
    if unread:
        return f"{have}; {unread}; {accepted(shapes)}"
    guesses = max((_guess(shape, names) for shape in shapes if set(shape) <= set(NAMES)), key=len, default={})
    if not guesses:
        such = f"such as --column {_an_example(names, shapes)}"
        return f"{have}; {accepted(shapes)}; say which is which with --column, {such}"
    flags = " ".join(f"--column {ours}={yours}" for ours, yours in guesses.items())
    missing, meant = next(iter(guesses.items()))
    return f"no column {missing!r}; did you mean {meant!r}? then say {flags}; {have}; {accepted(shapes)}"


def _unread_list(names: Collection[str], shapes: Shapes) -> str:
    """Why a column of lists is not read, where that is what is wrong; else empty."""
    if ("input_ids",) in shapes:
        return ""
    if "input_ids" in names:
        return "column 'input_ids' is read only as ready-made tokens (--token-ids)"
    lists = [name for name in names if name in _LISTS]
    if not lists or any(name in shape for shape in shapes for name in lists):
        return ""
    return f"{lists[0]!r} is a list, which CSV cannot hold: use JSONL"


def _guess(shape: Shape, names: Collection[str]) -> dict[str, str]:
    """Our name -> the column that may be meant, for each that is missing; nothing where one of them has no match."""
    free = [name for name in names if name not in shape and name not in OPTIONAL]
    found: dict[str, str] = {}
    for ours in shape:
        if ours in names:
            continue
        match = _meant(ours, [name for name in free if name not in found.values()])
        if match is None:
            return {}
        found[ours] = match
    return found


def _meant(ours: str, names: Iterable[str]) -> str | None:
    lowered = {name.strip().lower(): name for name in names}
    for usual in (ours, *_USUAL.get(ours, ())):
        if usual in lowered:
            return lowered[usual]
    close = get_close_matches(ours, lowered, n=1, cutoff=0.75)
    return lowered[close[0]] if close else None


class RowReader:
    """Rows -> examples under one layout; remembers which columns there were and which were used."""

    def __init__(self, shapes: Shapes, layout: Layout, *, null_ids: bool) -> None:
        """Read rows of these kinds.

        Args:
            shapes: what is accepted.
            layout: names of the columns.
            null_ids: an id of None is an absent one (tables), and not a mistake (JSON); then 7.0 is 7, because pandas
                makes integers floats where some are absent.
        """
        self.shapes = shapes
        self._layout = layout
        self._null_ids = null_ids
        self.seen: dict[str, None] = {}
        self.used: set[str] = set()
        self.mapped: set[str] = set()
        # Nearly all rows of a source have the same columns.
        self._columns = cache(self.renamed)
        self._shape = cache(self._shape_anew)
        self._fullest = cache(self._fullest_anew)

    def renamed(self, names: Iterable[str]) -> dict[str, str]:
        """Our name -> column, for the columns that take part."""
        names = dict.fromkeys(names)
        self.seen |= names
        mapped = {ours: yours for ours, yours in self._layout.columns.items() if yours in names}
        self.mapped |= set(mapped)
        gone = self._layout.ignore.union(mapped.values())
        return {**{name: name for name in names if name not in gone and name not in mapped}, **mapped}

    def check_header(self, names: Iterable[str]) -> None:
        """Refuse columns that can make no row.

        Raises:
            DataError: what is missing.
        """
        columns = self.renamed(names)
        if not any(set(shape) <= set(columns) for shape in self.shapes):
            shape_of(columns, self.shapes)

    def example(self, row: Row) -> Example:
        """One row as an example; the id is kept, or derived from the content.

        Raises:
            DataError: what is wrong with the row, without saying where the row is.
        """
        columns = self._columns(tuple(row))
        cells = self._cells(row, columns)
        # Tables give every row the columns of all rows, so an empty cell is an absent one: kinds of rows may be mixed.
        filled = [name for name, value in cells.items() if not _is_empty(value)]
        shape = self._shape(tuple(filled), tuple(cells))
        self.used |= {columns[name] for name in (*self._fullest(shape), *OPTIONAL) if name in columns}
        try:
            content = self.shapes[shape](cells)
            # An unknown subject is legitimate and CSV can only write it as an empty cell; a missing id is a mistake.
            subject = None if _is_empty(cells.get("subject")) else label_cell(cells, "subject")
            return Example(self._id(cells, content), content, subject)
        except DataError as problem:
            word = str(problem).partition(" ")[0].partition("[")[0]
            yours = f" ({word} is the column {columns[word]!r})" if columns.get(word, word) != word else ""
            raise DataError(f"{problem}{yours}") from problem

    def _cells(self, row: Row, columns: Mapping[str, str]) -> dict[str, object]:
        """Our name -> cell."""
        cells = {ours: row[yours] for ours, yours in columns.items()}
        if self._null_ids:
            cells |= {name: _whole(cells[name]) for name in OPTIONAL if name in cells}
        return cells

    def _shape_anew(self, filled: Shape, names: Shape) -> Shape:
        try:
            return shape_of(filled, self.shapes)
        except DataError:
            # Perhaps a cell that is needed is empty; then the kind of row is known, and the cell will be named.
            if len(filled) == len(names):
                raise
            return shape_of(names, self.shapes)

    def _fullest_anew(self, shape: Shape) -> Shape:
        """With Alpaca's input, of which its kind of row says what becomes of it when it is empty."""
        return tuple(dict.fromkeys(name for other in self.shapes if set(shape) <= set(other) for name in other))

    def _id(self, cells: Row, content: Content) -> str:
        absent = "id" not in cells or (cells["id"] is None and self._null_ids)
        return content_id(content) if absent else label_cell(cells, "id")

    def notes(self) -> tuple[str, ...]:
        """What was left out unasked, as one line; a column that looks like a misspelt one of ours is asked about."""
        left = [name for name in self.seen if name not in self.used and name not in self._layout.ignore]
        if not left:
            return ()
        hints = self._hints(left)
        return (f"columns left out: {', '.join((name or 'the unnamed') + hints.get(name, '') for name in left)}",)

    def _hints(self, left: Sequence[str]) -> dict[str, str]:
        """Column that was left out -> a question, where it looks like one of ours that is not there."""
        hints: dict[str, str] = {}
        for ours in OPTIONAL:
            if ours not in self.seen and ours not in self.mapped:
                match = _meant(ours, [name for name in left if name not in hints])
                hints |= {match: f" (did you mean {ours}? --column {ours}={match})"} if match else {}
        return hints


def _whole(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _is_empty(value: object) -> bool:
    return value is None or (isinstance(value, str) and not value)
