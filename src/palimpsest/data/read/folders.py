"""Dataset folders: what ``save_to_disk`` wrote, and folders of files, each with its splits.

| folder                                        | its splits                                               |
|-----------------------------------------------|----------------------------------------------------------|
| of a saved Dataset                            | one                                                      |
| of a saved DatasetDict                        | its keys                                                 |
| of files: train.jsonl, forget.csv, ...        | the names of the files, here train and forget            |
| of shards: data/train-00000-of-00002.parquet  | what is before the number                                |
| of folders: train/..., test/...               | the names of the folders, for the usual names of splits  |

A split is never made of files with different names: forget.jsonl and retain.jsonl stay apart.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from pathlib import Path

from palimpsest.data.read.table import Table, names_in, numbered, one_line
from palimpsest.errors import DataError, unknown
from palimpsest.untrusted import parse_json, refusing

Readers = Mapping[str, Callable[[Path], Table]]

_USUAL = frozenset({"train", "training", "validation", "valid", "val", "dev", "test", "testing", "eval", "evaluation"})
_NO_ROWS = frozenset({"dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"})
_SHARD = re.compile(r"[-_.]\d+-of-\d+$|(^|[-_.])part[-_.]?\d+.*$|^\d+$")
_DEPTH = 3  # FOLDER/data/train/0000.parquet


def find_split(source: str | os.PathLike[str]) -> tuple[Path, str] | None:
    """Folder and split of FOLDER:SPLIT; None when it is none."""
    folder, sign, split = os.fspath(source).rpartition(":")
    return (Path(folder), split) if sign and split and Path(folder).is_dir() else None


def split_of(folder: Path, split: str | None, readers: Readers, *, named: bool = False) -> str:
    """Which split to open: the named one, or the only one.

    Args:
        folder: of the dataset.
        split: asked for, if one is.
        readers: ending -> what reads such a file.
        named: it was asked of this folder (FOLDER:SPLIT), and not of all sources of a command.

    Raises:
        DataError: there are several and none is named, there is no such split, or there are no rows.
    """
    found = list(splits(folder, readers))
    if split is not None and _has_split(folder, split, found, named=named):
        return split
    if len(found) == 1:
        return found[0]
    if not found:
        raise DataError(f"{folder}: is a folder without rows; accepted: {'/'.join(readers)} files, pictures in folders")
    raise DataError(
        f"{folder}: is a folder with the splits {', '.join(found)}; name one as {_syntax(folder)}, or give a file"
    )


def _syntax(folder: Path) -> str:
    return f"{folder}:SPLIT or --split SPLIT"


def _has_split(folder: Path, split: str, found: list[str], *, named: bool) -> bool:
    """Is a split there? Refused where others are; a folder without any does not mind a split of the whole command."""
    if not found:
        return (folder / split).is_dir()  # of pictures, which datasets sorts
    if split in found:
        return True
    if found != [""]:
        raise DataError(f"{folder}: {unknown('split', split, found)}; name one as {_syntax(folder)}")
    if named:
        raise DataError(f"{folder}: is one saved dataset without splits; give the folder alone")
    return False


def splits(folder: Path, readers: Readers) -> dict[str, list[Path]]:
    """Split -> its files, or its folder where ``save_to_disk`` wrote it; "" is the only one of a saved Dataset."""
    if _is_saved(folder):
        return {"": [folder]}
    listing = folder / "dataset_dict.json"
    if listing.is_file():
        try:
            names = parse_json(listing.read_text(encoding="utf-8"))["splits"]
            return {str(name): [folder / str(name)] for name in names}
        except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
            raise DataError(f"{listing}: not the list of splits of a saved dataset ({one_line(error)})") from error
    found: dict[str, list[Path]] = {}
    for file in _files(folder, readers):
        found.setdefault(_split_name(file.relative_to(folder)), []).append(file)
    return found


def _is_saved(folder: Path) -> bool:
    return all((folder / name).is_file() for name in ("state.json", "dataset_info.json"))


def _files(folder: Path, readers: Readers) -> Iterator[Path]:
    for depth in range(_DEPTH):
        for file in sorted(folder.glob("/".join(["*"] * (depth + 1)))):
            hidden = any(part.startswith((".", "_")) for part in file.relative_to(folder).parts)
            if file.suffix.lower() in readers and file.name not in _NO_ROWS and not hidden and file.is_file():
                yield file


def _split_name(file: Path) -> str:
    """Name of the split of a file in a folder.

    >>> [_split_name(Path(name)) for name in ("forget.csv", "data/train-00000-of-00002.parquet", "test/new/rows.jsonl")]
    ['forget', 'train', 'test']
    """
    folders = list(file.parts[:-1])
    if folders[:1] == ["data"]:
        folders = folders[1:]
    for depth, name in enumerate(folders, 1):
        if name.lower() in _USUAL:
            return "/".join(folders[:depth])
    stem = _SHARD.sub("", file.stem)
    return "/".join([*folders, *([stem] if stem else [])]) or "train"


def open_split(folder: Path, split: str, readers: Readers, *, given: bool) -> Table:
    """The rows of a split.

    Args:
        folder: of the dataset.
        split: from ``split_of``.
        readers: ending -> what reads such a file.
        given: the split was asked for by ``Layout.split``.

    Raises:
        DataError: a file cannot be read, or the split is there in two formats.
    """
    settled = frozenset({"split"} if given and split else ())
    return _opened(folder, split, readers)._replace(settled=settled)


def _opened(folder: Path, split: str, readers: Readers) -> Table:
    parts = splits(folder, readers).get(split)
    if parts is None:
        return _pictures(folder, split)
    if parts[0].suffix.lower() not in readers or parts[0].is_dir():
        return _saved(parts[0])
    return _of_files(folder, split, parts, readers)


def _of_files(folder: Path, split: str, parts: list[Path], readers: Readers) -> Table:
    """The rows of all files of a split, one after the other."""
    endings = sorted({part.suffix.lower() for part in parts})
    if len(endings) > 1:
        raise DataError(f"{folder}: split {split!r} is there as {' and '.join(endings)}; give one of the files")
    tables = [readers[endings[0]](part) for part in parts]
    names = dict.fromkeys(name for table in tables for name in table.columns or ())
    rows = chain.from_iterable(table.rows for table in tables)
    return tables[0]._replace(origin=str(folder), columns=tuple(names) or None, rows=rows)


def _saved(folder: Path) -> Table:
    """What ``Dataset.save_to_disk`` wrote, read into memory: no copy in a cache, where no deletion would reach it."""
    import datasets

    with refusing(lambda reason: DataError(f"{folder}: cannot be read as a saved dataset ({reason})")):
        found = datasets.load_from_disk(str(folder), keep_in_memory=True).with_format(None)
        records = list(found)
        names = tuple(found.column_names)
        classes = names_in(found.features)
    rows = numbered(str(folder), records)
    return Table(str(folder), names, rows, pictures=True, class_names=classes, null_ids=True)


def _pictures(folder: Path, split: str) -> Table:
    """A split of a folder of pictures, which ``datasets`` sorts and streams."""
    import datasets

    with refusing(lambda reason: DataError(f"{folder}: cannot be read as a dataset ({reason})")):
        found = datasets.load_dataset(str(folder), split=split, streaming=True)
        records = list(found)
    where = f"{folder}/{split}"
    return Table(str(folder), tuple(found.column_names or ()) or None, numbered(where, records), pictures=True)
