"""Images from .npz files -> examples with ids, and what becomes of pictures of any source.

| source       | pixels                                | class                  | id                             |
|--------------|---------------------------------------|------------------------|--------------------------------|
| .npz         | x: uint8, (N, H, W, C) or (N, H, W)   | y: integers, (N,)      | id or name, else the content's |
| image folder | picture_folder.py                     | the sub-folder's name  | path in the folder             |
| dataset      | image: a picture, or its file's bytes | label: integer or name | id, else the content's         |

Files and pictures in memory become pixels by one rule (picture_modes.py), whatever they come from. An .npz may also
hold subject and task, (N,); other arrays are left out.

Shape legend: N images, H height, W width, C channels.
"""

from __future__ import annotations

import math
import tokenize
import zipfile
import zlib
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from palimpsest.data.read.layout import Layout, Rows
from palimpsest.errors import DataError, encodable
from palimpsest.records import Example, Image, content_id
from palimpsest.untrusted import ALWAYS_READ, MOST_TIMES, reason_of

if TYPE_CHECKING:
    from jaxtyping import UInt8

ACCEPTED = (
    "accepted: x (uint8, N x H x W or N x H x W x C) and y (integers, N), with optional id or name, subject, task"
)
_COLUMNS = ("x", "y", "id", "name", "subject", "task")
_IN_NPZ = {"image": "x", "label": "y"}


def read_npz(path: Path, layout: Layout) -> Rows:
    """Examples of an .npz file, in order; ids may still repeat.

    Args:
        path: the file; no pickles are read.
        layout: names of the arrays (its image is x and its label y) and arrays to leave out.

    Raises:
        DataError: what the file holds instead.
    """
    held, mapped, columns = _arrays(path, layout)
    examples = _examples(path, columns)
    used = {mapped.get(name, name) for name in columns}
    left = [name for name in held if name not in used and name not in layout.ignore]
    notes = (f"{path}: arrays left out: {', '.join(left)}",) if left else ()
    ours = frozenset(name for name, yours in layout.columns.items() if yours in used)
    return Rows(examples, notes, tuple(held), ours)


def _examples(path: Path, columns: Mapping[str, np.ndarray]) -> list[Example]:
    images_NHWC = _images(path, columns)
    label_N = _labels(path, columns, len(images_NHWC))
    if {"id", "name"} <= columns.keys():
        raise DataError(f"{path}: holds both id and name; accepted: one of them, so add --ignore-column name")
    own = "name" if "name" in columns else "id"
    ids, subjects, tasks = (_texts(path, name, columns, len(images_NHWC)) for name in (own, "subject", "task"))
    shape = images_NHWC.shape[1:]
    examples = []
    for row, label in enumerate(label_N.tolist()):
        task = tasks[row] if tasks else None
        content = Image(images_NHWC[row].tobytes(), shape, label, task)
        subject = (str(subjects[row]) or None) if subjects else None
        given_id = str(ids[row]) if ids else content_id(content)
        examples.append(Example(given_id, content, subject, f"{path}, row {row + 1}"))
    return examples


UNREADABLE = (
    *(zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError),  # a broken archive
    *(ValueError, tokenize.TokenError, OverflowError, MemoryError),  # a header that is none, or of an absurd shape
)


def _arrays(path: Path, layout: Layout) -> tuple[list[str], dict[str, str], dict[str, np.ndarray]]:
    """Names of all arrays, the name of the mapped ones in the file, and the arrays that are read, by our names."""
    try:
        with zipfile.ZipFile(path) as file:
            held = {member.removesuffix(".npy"): member for member in file.namelist()}
            mapped = _mapped(held, layout)
            wanted = _wanted(held, mapped, layout)
            found = {name: _array(file, held[yours]) for name, yours in wanted.items()}
    except UNREADABLE as error:
        raise DataError(f"{path}: not a readable .npz file ({reason_of(error)}); {ACCEPTED}") from error
    _check_there(path, held, found)
    return list(held), mapped, found


def _mapped(held: Collection[str], layout: Layout) -> dict[str, str]:
    """Our name of an array -> its name in the file, of those that the layout names and the file holds."""
    named = {_IN_NPZ.get(ours, ours): yours for ours, yours in layout.columns.items()}
    return {ours: yours for ours, yours in named.items() if ours in _COLUMNS and yours in held}


def _wanted(held: Iterable[str], mapped: Mapping[str, str], layout: Layout) -> dict[str, str]:
    """Our name of an array -> its name in the file, of all that are read."""
    gone = layout.ignore.union(mapped.values())
    as_named = {name: name for name in held if name not in gone}
    return {name: yours for name, yours in {**as_named, **mapped}.items() if name in _COLUMNS}


def _array(file: zipfile.ZipFile, member: str) -> np.ndarray:
    held = file.getinfo(member)
    if held.file_size > max(ALWAYS_READ, MOST_TIMES * held.compress_size):
        raise ValueError(
            f"{member} is {held.file_size} bytes packed into {held.compress_size}, which no pictures are; save it again"
        )
    with file.open(member) as stream:
        claimed = _bytes_claimed(stream)
    if claimed > held.file_size:
        raise ValueError(f"{member} says that it holds {claimed} bytes, and has {held.file_size}")
    with file.open(member) as stream:
        return np.asarray(np.lib.format.read_array(stream, allow_pickle=False))


def _bytes_claimed(stream: Any) -> int:
    """Bytes of the array that a .npy header announces; its values are not read."""
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(stream)
    return math.prod(map(int, shape)) * int(dtype.itemsize)


def _check_there(path: Path, held: Iterable[str], found: Collection[str]) -> None:
    """Refuse a file without the two arrays that make an image."""
    missing = [name for name in ("x", "y") if name not in found]
    if missing:
        ours = next(ours for ours, name in _IN_NPZ.items() if name == missing[0])
        raise DataError(
            f"{path}: no array {missing[0]}; it holds {', '.join(held) or 'nothing'}; {ACCEPTED}; name yours with "
            f"--column {ours}=ARRAY"
        )


def _images(path: Path, columns: Mapping[str, np.ndarray]) -> UInt8[np.ndarray, "N H W C"]:
    x = columns["x"]
    if x.dtype != np.uint8 or x.ndim not in {3, 4} or not x.size:
        shape = " x ".join(map(str, x.shape))
        raise DataError(f"{path}: x is {x.dtype}, {shape or 'one number'}; {ACCEPTED}")
    images = x[..., None] if x.ndim == 3 else x
    if images.shape[3] not in {1, 3}:
        raise DataError(f"{path}: x has {images.shape[3]} channels; accepted: 1 or 3, in the last place")
    return images


def _labels(path: Path, columns: Mapping[str, np.ndarray], num: int) -> np.ndarray:
    y = columns["y"]
    if y.dtype.kind not in "iu" or y.shape != (num,):
        raise DataError(
            f"{path}: y is {y.dtype}, {' x '.join(map(str, y.shape))}; accepted: {num} integers, one per image"
        )
    if y.min() < 0:
        row = int((y < 0).argmax())
        raise DataError(f"{path}, row {row + 1}: class {y[row]}; accepted: 0 and up")
    return y


def _texts(path: Path, name: str, columns: Mapping[str, np.ndarray], num: int) -> list[Any]:
    """A column of strings or integers; empty when it is not there."""
    if name not in columns:
        return []
    column = columns[name]
    if column.dtype.kind not in "iuU" or column.shape != (num,):
        shape = " x ".join(map(str, column.shape))
        raise DataError(f"{path}: {name} is {column.dtype}, {shape}; accepted: {num} strings or integers")
    values: list[Any] = column.tolist()
    for row, value in enumerate(values):
        encodable(str(value), f"{path}, row {row + 1}: {name}")
    if name in {"id", "name"}:
        empty = [row for row, value in enumerate(values) if not str(value).strip()]
        if empty:
            raise DataError(f"{path}, row {empty[0] + 1}: {name} is empty; accepted: a name or number for each image")
    return values
