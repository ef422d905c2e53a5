"""One row of a table -> one Example. The accepted columns are written here and nowhere else."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from types import MappingProxyType

from palimpsest.data.pictures import decode, image_of, pixels_of
from palimpsest.errors import DataError, encodable, unknown
from palimpsest.records import Chat, Completion, Content, Example, Message, Text, TokenIds, content_id

Row = Mapping[str, object]
Shapes = Mapping[tuple[str, ...], Callable[[Row], Content]]

_OPTIONAL = ("id", "subject")
_PICTURE_COLUMNS = ("image", "img")
_SHOWN_CHARACTERS = 40


def shapes_for(*, token_ids: bool, cells_only: bool, pictures: bool) -> Shapes:
    """Row shapes that are accepted, each with what turns it into a content.

    Args:
        token_ids: accept rows of token ids, and nothing else.
        cells_only: the file holds plain cells (CSV), so lists cannot occur.
        pictures: the source can hold pictures (Parquet, datasets).
    """
    if token_ids:
        return MappingProxyType({("input_ids",): _token_ids})
    plain: dict[tuple[str, ...], Callable[[Row], Content]] = {
        ("text",): lambda row: Text(_text(row, "text")),
        ("prompt", "completion"): _completion,
    }
    if not cells_only:
        plain[("messages",)] = lambda row: _chat(_messages(row, "messages"), "messages")
    if pictures:
        plain |= {(column, "label"): partial(_labelled, column) for column in _PICTURE_COLUMNS}
    return MappingProxyType(plain)


def accepted(shapes: Shapes) -> str:
    """The shapes as one phrase for a message."""
    return f"accepted: {' or '.join('{' + ', '.join(shape) + '}' for shape in shapes)}, with optional id and subject"


def check_columns(names: Iterable[str], shapes: Shapes, ignore: frozenset[str]) -> tuple[str, ...]:
    """The shape that these columns have.

    Raises:
        DataError: a column is unknown, one is missing, or two shapes are mixed.
    """
    present = [name for name in names if name not in ignore]
    known = {column for shape in shapes for column in shape} | set(_OPTIONAL)
    strangers = [name for name in present if name not in known]
    if "input_ids" in strangers:
        raise DataError(f"column 'input_ids' is read only with token_ids (--token-ids); {accepted(shapes)}")
    if strangers:
        also = f" (also unknown: {', '.join(map(repr, strangers[1:]))})" if len(strangers) > 1 else ""
        raise DataError(f"{unknown('column', strangers[0], known)}{also}; name it in ignore_columns to leave it out")
    content = {name for name in present if name not in _OPTIONAL}
    for shape in shapes:
        if content == set(shape):
            return shape
    have = ", ".join(sorted(content)) or "none"
    raise DataError(f"content columns are {have}; {accepted(shapes)}")


def to_example(row: Row, shapes: Shapes, ignore: frozenset[str]) -> Example:
    """One row as an example; the id is kept, or derived from the content.

    Raises:
        DataError: what is wrong with the row, without saying where the row is.
    """
    shape = check_columns(row, shapes, ignore)
    content = shapes[shape](row)
    given = _label(row, "id") if "id" in row and "id" not in ignore else content_id(content)
    # An unknown subject is legitimate and CSV can only write it as an empty cell; a missing id is a mistake.
    has_subject = "subject" not in ignore and row.get("subject") not in (None, "")
    return Example(given, content, _label(row, "subject") if has_subject else None)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…"


def _label(row: Row, column: str) -> str:
    value = row[column]
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{column} is {_shown(value)}; accepted: a non-empty string or an integer")
    return encodable(value, column)


def _text(row: Row, column: str) -> str:
    value = row[column]
    if not isinstance(value, str):
        raise DataError(f"{column} is {_shown(value)}; accepted: a string that is not empty")
    if not value.strip():
        raise DataError(f"{column} is empty; accepted: a string that is not empty")
    return encodable(value, column)


def _completion(row: Row) -> Content:
    if isinstance(row["prompt"], list) or isinstance(row["completion"], list):
        prompt, completion = _messages(row, "prompt"), _messages(row, "completion")
        if any(message.role == "assistant" for message in prompt):
            raise DataError("prompt holds an assistant turn, which would be scored; put the whole talk in messages")
        if any(message.role != "assistant" for message in completion):
            raise DataError("completion holds a turn that is not the assistant's; put the whole talk in messages")
        return _chat((*prompt, *completion), "completion")
    return Completion(_text(row, "prompt"), _text(row, "completion"))


def _messages(row: Row, column: str) -> tuple[Message, ...]:
    value = row[column]
    if not isinstance(value, list):
        raise DataError(f"{column} is {_shown(value)}; accepted: a list of {{role, content}}")
    return tuple(_message(turn, f"{column}[{index}]") for index, turn in enumerate(value))


def _message(turn: object, where: str) -> Message:
    if not isinstance(turn, dict):
        raise DataError(f"{where} is {_shown(turn)}; accepted: {{role, content}}")
    # Arrow gives every turn the keys of all turns, so a null key is an absent one.
    filled = {key: value for key, value in turn.items() if value is not None}
    strangers = [key for key in filled if key not in Message._fields]
    if strangers:
        raise DataError(f"{where}: {unknown('key', strangers[0], Message._fields)}")
    missing = [key for key in Message._fields if key not in filled]
    if missing:
        raise DataError(f"{where} has no {missing[0]}; accepted: {{role, content}}")
    texts = {f"{where}.{key}": filled[key] for key in Message._fields}
    return Message(*(_text(texts, key) for key in texts))


def _chat(messages: tuple[Message, ...], column: str) -> Chat:
    if not any(message.role == "assistant" for message in messages):
        raise DataError(f"{column} has no turn with role 'assistant', so nothing would be scored")
    return Chat(messages)


def _labelled(column: str, row: Row) -> Content:
    label, picture = row["label"], row[column]
    if (
        not isinstance(label, int | str)
        or isinstance(label, bool)
        or label == ""
        or (isinstance(label, int) and label < 0)
    ):
        raise DataError(f"label is {_shown(label)}; accepted: the number of a class, or its name")
    if hasattr(picture, "convert"):
        return image_of(pixels_of(picture), label)
    data = picture.get("bytes") if isinstance(picture, dict) else picture
    if not isinstance(data, bytes):
        raise DataError(f"{column} is {_shown(picture)}; accepted: a picture, or the bytes of a PNG or JPEG file")
    return image_of(decode(data), label)


def _token_ids(row: Row) -> Content:
    value = row["input_ids"]
    if not isinstance(value, list) or len(value) < 2:
        raise DataError(f"input_ids is {_shown(value)}; accepted: a list of at least 2 token ids")
    for index, token in enumerate(value):
        if not isinstance(token, int) or isinstance(token, bool) or token < 0:
            raise DataError(f"input_ids[{index}] is {_shown(token)}; accepted: integers >= 0")
    return TokenIds(tuple(value))
