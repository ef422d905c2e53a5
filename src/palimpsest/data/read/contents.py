"""The cells of one row -> what is learned or forgotten."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from functools import partial

import numpy as np

from palimpsest.data.read.picture_modes import KINDS_OF_FILES, decode, image_of, pixels_of
from palimpsest.errors import DataError, encodable, unknown
from palimpsest.records import Chat, Completion, Content, Image, Labelled, Message, Text, TokenIds

Row = Mapping[str, object]
Builder = Callable[[Row], Content]

PICTURE_COLUMNS = ("image", "img")
_SHOWN_CHARACTERS = 40
_DIGITS = 100
_SPEAKERS = {"human": "user", "gpt": "assistant"}


def shown(value: object) -> str:
    """A value in a message: on one line, cut where it is long."""
    text = " ".join(repr(value).split("\n"))
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…"


def label_cell(row: Row, column: str) -> str:
    """An id or a subject: a string as it is, an integer as its digits.

    Raises:
        DataError: it is neither.
    """
    value = row[column]
    if isinstance(value, int) and not isinstance(value, bool):
        if abs(value) >= 10**_DIGITS:
            raise DataError(f"{column} is a number of more than {_DIGITS} digits; accepted: shorter ones, or a string")
        return str(value)
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{column} is {shown(value)}; accepted: a non-empty string or an integer")
    return encodable(value, column)


def _text(row: Row, column: str) -> str:
    value = row[column]
    if not isinstance(value, str):
        raise DataError(f"{column} is {shown(value)}; accepted: a string that is not empty")
    if not value.strip():
        raise DataError(f"{column} is empty; accepted: a string that is not empty")
    return encodable(value, column)


def plain_text(row: Row) -> Content:
    """A row of {text}."""
    return Text(_text(row, "text"))


def labelled_text(row: Row) -> Content:
    """A row of {text, label}, for a classifier of texts."""
    return Labelled(_text(row, "text"), _class_label(row["label"]))


def completion(row: Row) -> Content:
    """A row of {prompt, completion}: strings, or lists of turns."""
    if isinstance(row["prompt"], list) or isinstance(row["completion"], list):
        prompt, answer = _messages(row, "prompt"), _messages(row, "completion")
        if any(message.role == "assistant" for message in prompt):
            raise DataError("prompt holds an assistant turn, which would be scored; put the whole talk in messages")
        if any(message.role != "assistant" for message in answer):
            raise DataError("completion holds a turn that is not the assistant's; put the whole talk in messages")
        return _chat((*prompt, *answer), "completion")
    return Completion(_text(row, "prompt"), _text(row, "completion"))


def instruction(row: Row) -> Content:
    r"""A row of {instruction, input, output}, as Alpaca has them.

    The prompt is the instruction, an input behind a blank line if there is one, and a line break.

    >>> instruction({"instruction": "Translate.", "input": "oui", "output": "yes"})
    Completion(prompt='Translate.\n\noui\n', completion='yes')
    >>> instruction({"instruction": "Say yes.", "output": "yes"})
    Completion(prompt='Say yes.\n', completion='yes')
    """
    given = row.get("input")  # a table has None where CSV has an empty cell
    parts = [_text(row, "instruction")]
    if given is not None and not (isinstance(given, str) and not given.strip()):
        parts.append(_text(row, "input"))
    return Completion("\n\n".join(parts) + "\n", _text(row, "output"))


def conversation(column: str) -> Builder:
    """A row of {messages} or {conversations}: a list of {role, content}, or of ShareGPT's {from, value}."""
    return lambda row: _chat(_messages(row, column), column)


def labelled(column: str) -> Builder:
    """A row of a picture in this column, and its label."""
    return partial(_labelled, column)


def _messages(row: Row, column: str) -> tuple[Message, ...]:
    value = row[column]
    if not isinstance(value, list):
        raise DataError(f"{column} is {shown(value)}; accepted: a list of {{role, content}}")
    return tuple(_message(turn, f"{column}[{index}]") for index, turn in enumerate(value))


def _message(turn: object, where: str) -> Message:
    if not isinstance(turn, Mapping):
        raise DataError(f"{where} is {shown(turn)}; accepted: {{role, content}}")
    # Arrow gives every turn the keys of all turns, so a null key is an absent one.
    filled = {key: value for key, value in turn.items() if value is not None}
    if {"from", "value"} <= set(filled) and not set(Message._fields) & set(filled):
        filled = _from_sharegpt(filled)
    _check_keys(filled, where)
    texts = {f"{where}.{key}": filled[key] for key in Message._fields}
    return Message(*(_text(texts, key) for key in texts))


def _from_sharegpt(turn: Mapping[object, object]) -> dict[object, object]:
    """A turn of {from, value} as one of {role, content}; other keys stay."""
    role = turn["from"]
    said = {"role": _SPEAKERS.get(role, role) if isinstance(role, str) else role, "content": turn["value"]}
    return said | {key: value for key, value in turn.items() if key not in ("from", "value")}


def _check_keys(filled: Collection[object], where: str) -> None:
    strangers = [key for key in filled if key not in Message._fields]
    if strangers:
        raise DataError(f"{where}: {unknown('key', str(strangers[0]), Message._fields)}")
    missing = [key for key in Message._fields if key not in filled]
    if missing:
        raise DataError(f"{where} has no {missing[0]}; accepted: {{role, content}}")


def _chat(messages: tuple[Message, ...], column: str) -> Chat:
    if not any(message.role == "assistant" for message in messages):
        roles = ", ".join(dict.fromkeys(shown(message.role) for message in messages))
        found = f"; its roles: {roles}" if roles else ""
        raise DataError(f"{column} has no turn with role 'assistant', so nothing would be scored{found}")
    return Chat(messages)


def _labelled(column: str, row: Row) -> Content:
    label, picture = _class_label(row["label"]), _pixels(row[column], column)
    if hasattr(picture, "convert"):
        return image_of(pixels_of(picture), label)
    if isinstance(picture, np.ndarray):
        return image_of(_array_of_pixels(picture, column), label)
    data = picture.get("bytes") if isinstance(picture, dict) else picture
    if not isinstance(data, bytes):
        raise DataError(f"{column} is {shown(picture)}; accepted: a picture, or the bytes of a file ({KINDS_OF_FILES})")
    return image_of(decode(data), label)


def _array_of_pixels(array: np.ndarray, column: str) -> np.ndarray:
    pixels_HWC = array[:, :, None] if array.ndim == 2 else array
    if array.dtype != np.uint8 or pixels_HWC.ndim != 3 or not array.size or pixels_HWC.shape[2] not in {1, 3}:
        shape = " x ".join(map(str, array.shape))
        raise DataError(f"{column} is an array of {array.dtype}, {shape}; accepted: uint8, H x W or H x W x 1 or 3")
    return pixels_HWC


def _pixels(picture: object, column: str) -> object:
    """A tensor of torch as NumPy has it; anything else as it is."""
    if not hasattr(picture, "detach"):
        return picture
    pixels = picture.detach().cpu().numpy()
    if pixels.ndim not in {2, 3} or pixels.dtype != np.uint8 or (pixels.ndim == 3 and pixels.shape[2] not in {1, 3}):
        size = " x ".join(map(str, pixels.shape))
        raise DataError(
            f"{column} is a tensor of {pixels.dtype}, {size}; accepted: uint8, height x width x channels, as "
            "(255 * image).round().to(torch.uint8).permute(1, 2, 0) makes of one from torchvision"
        )
    return pixels


def _class_label(label: object) -> int | str:
    number = isinstance(label, int) and not isinstance(label, bool) and label >= 0
    if not number and not (isinstance(label, str) and label):
        raise DataError(f"label is {shown(label)}; accepted: the number of a class, or its name")
    return label if isinstance(label, str) else int(label)  # type: ignore[call-overload]


def token_ids(row: Row) -> Content:
    """A row of {input_ids}."""
    value = row["input_ids"]
    if not isinstance(value, list) or len(value) < 2:
        raise DataError(f"input_ids is {shown(value)}; accepted: a list of at least 2 token ids")
    for index, token in enumerate(value):
        if not isinstance(token, int) or isinstance(token, bool) or token < 0:
            raise DataError(f"input_ids[{index}] is {shown(token)}; accepted: integers >= 0")
    return TokenIds(tuple(value))


def checked(content: Content) -> Content:
    """A content that a user made: as it is, if a row of it would be accepted.

    Raises:
        DataError: what is wrong with it.
    """
    if isinstance(content, Text):
        return plain_text({"text": content.text})
    if isinstance(content, Completion):
        return completion({"prompt": content.prompt, "completion": content.completion})
    if isinstance(content, Chat):
        turns = content.messages if isinstance(content.messages, list | tuple) else (content.messages,)
        return conversation("messages")({"messages": [_turn(turn) for turn in turns]})
    if isinstance(content, TokenIds):
        ids = content.input_ids
        return token_ids({"input_ids": list(ids) if isinstance(ids, list | tuple) else ids})
    if isinstance(content, Image):
        return _checked_image(content)
    if isinstance(content, Labelled):
        return labelled_text({"text": content.text, "label": content.label})
    raise DataError(f"content is {shown(content)}; accepted: Text, Completion, Chat, TokenIds, Image or Labelled")


def _turn(turn: object) -> object:
    """A turn of a Chat as a row has it, if it is one."""
    return dict(zip(Message._fields, turn, strict=True)) if isinstance(turn, tuple | list) and len(turn) == 2 else turn


def _checked_image(image: Image) -> Image:
    shape, pixels = image.shape, image.pixels
    sizes = isinstance(shape, tuple) and all(type(size) is int and size > 0 for size in shape)
    if not sizes or len(shape) != 3 or shape[2] not in {1, 3}:
        raise DataError(f"shape of an Image is {shown(shape)}; accepted: (height, width, channels), 1 or 3 channels")
    if not isinstance(pixels, bytes) or len(pixels) != math.prod(shape):
        raise DataError(f"pixels of an Image are {shown(pixels)}; accepted: {math.prod(shape)} bytes, as its shape has")
    return replace(image, label=_class_label(image.label))
