"""Options as rows: name, what is accepted, default and meaning, read off their schema."""

from __future__ import annotations

import re
import textwrap
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic.fields import FieldInfo

WIDTH = 100
PLAIN = {bool: "true or false", int: "whole number", float: "number", str: "text", type(None): "none", Any: "anything"}
BOUNDS = (("ge", "at least"), ("gt", "above"), ("le", "at most"), ("lt", "below"))
UNIONS = (types.UnionType, typing.Union)


@dataclass(frozen=True)
class OptionRow:
    """One option.

    Attributes:
        place: section, method or metric it belongs to.
        name: within that; of an option within an option with a dot.
        accepts: type, choices and bounds, in words.
        default: as it would be written in a plan file.
        about: what it does.
        depends: when the default is another; "" where it never is.
    """

    place: str
    name: str
    accepts: str
    default: str
    about: str
    depends: str = ""

    @property
    def path(self) -> str:
        """As ``--set`` takes it."""
        return f"{self.place}.{self.name}"

    def values(self) -> dict[str, str]:
        """All but the name, as JSON has it."""
        found = {"default": self.default, "accepts": self.accepts, "about": self.about}
        return {**found, "depends": self.depends} if self.depends else found


def option_rows(schema: type[BaseModel], place: str, depends: Mapping[str, str] | None = None) -> list[OptionRow]:
    """The options of a schema; those of a schema within it behind a dot.

    Args:
        schema: of a section, a method or a metric.
        place: what ``--set`` calls it.
        depends: option -> when its default is another.
    """
    return [
        OptionRow(
            place, name, accepts(field), default_of(field), _flat(field.description), (depends or {}).get(name, "")
        )
        for name, field in _fields(schema)
    ]


def _fields(schema: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    for name, field in schema.model_fields.items():
        yield prefix + name, field
        for inner in (field.annotation, *get_args(field.annotation)):
            if hasattr(inner, "model_fields"):
                yield from _fields(inner, f"{prefix}{name}.")


def _flat(text: str | None) -> str:
    return " ".join((text or "").split())


def default_of(field: FieldInfo) -> str:
    """The default as it would be written in a plan file."""
    return "required" if field.is_required() else written(field.get_default(call_default_factory=True))


def written(value: Any) -> str:
    """A value as it would be written in a plan file.

    >>> written(None), written(True), written((0.9, 0.999)), written("auto"), written({})
    ('null', 'true', '[0.9, 0.999]', 'auto', '{}')
    """
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(written, value))}]"
    return str(value)


def accepts(field: FieldInfo) -> str:
    """What an option accepts, in words.

    >>> from palimpsest.loop.training import Training
    >>> accepts(Training.model_fields["max_steps"])
    'whole number at least 1, or null'
    """
    return _bounded(field.annotation, field.metadata)


def _bounded(kind: Any, marks: Iterable[Any]) -> str:
    """A type with its bounds; a null that it also takes comes last."""
    parts = get_args(kind) if get_origin(kind) in UNIONS else (kind,)
    bounds = [
        f"{word} {written(getattr(mark, name))}"
        for name, word in BOUNDS
        for mark in marks
        if getattr(mark, name, None) is not None
    ]
    words = " ".join([" or ".join(_words(part) for part in parts if part is not type(None)), " and ".join(bounds)])
    return words.strip() + (", or null" if type(None) in parts else "")


def _words(kind: Any) -> str:
    """A type in words.

    >>> _words(Literal["a", "b"]), _words(tuple[str, ...]), _words(dict[str, int])
    ('a or b', 'list of text', 'mapping of names to whole number')
    """
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Literal:
        return " or ".join(map(written, parts))
    if origin is Annotated:
        return _bounded(parts[0], [mark for part in parts[1:] for mark in getattr(part, "metadata", [part])])
    if origin is tuple:
        return f"list of {'' if parts[-1] is Ellipsis else f'{len(parts)} x '}{_words(parts[0])}"
    if origin is dict:
        return f"mapping of names to {_bounded(parts[1], ())}"
    return PLAIN.get(kind, "mapping")


def as_text(rows: Iterable[OptionRow], *, brief: bool = False) -> str:
    """Rows for a terminal: path, default and what is accepted; below it what it does.

    Args:
        rows: to show.
        brief: only the first sentence of what each does.
    """
    return "\n".join(line for row in rows for line in _lines(row, brief))


def _lines(row: OptionRow, brief: bool) -> list[str]:
    other = f"; {row.depends}" if row.depends else ""
    said = first_sentence(row.about) if brief else row.about
    about = said + "." if brief and not said.endswith("..") else said
    head = textwrap.wrap(f"{row.path} = {row.default}   ({row.accepts}{other})", WIDTH - 2, subsequent_indent="    ")
    return [*(f"  {line}" for line in head), *(f"      {line}" for line in textwrap.wrap(about, WIDTH - 6))]


def as_table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """A table of Markdown.

    >>> print(as_table(("a", "b"), [("1", "2")]))
    | a | b |
    | --- | --- |
    | 1 | 2 |
    """
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def first_sentence(text: str) -> str:
    """Up to the first full stop that ends a sentence, without it.

    >>> first_sentence("it is late. Not before."), first_sentence('a word, e.g. "es".')
    ('it is late', 'a word, e.g. "es"')
    """
    return re.split(r"(?<!\.)\.(?: (?=[A-Z])|$)", text)[0]
