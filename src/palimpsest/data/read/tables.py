"""A file, a dataset folder or a Hub name -> rows with their places."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from palimpsest.data.read.contents import Row
from palimpsest.data.read.folders import Readers, find_split, open_split, split_of
from palimpsest.data.read.hub import AWAY, is_reachable
from palimpsest.data.read.layout import Layout
from palimpsest.data.read.plain_files import read_csv, read_json, read_jsonl
from palimpsest.data.read.table import Table, names_in, numbered, refuse_twins
from palimpsest.errors import DataError
from palimpsest.untrusted import ALWAYS_READ, MOST_TIMES, parse_json, refusing

_TOGETHER = 1024  # rows
_HUB_NAME = re.compile(r"(?P<name>[\w.-]+/[\w.-]+)(:(?P<config>[\w.-]+))?")
_CURES = {
    ".arrow": "a part of a saved dataset; give the folder that it lies in",
    ".xlsx": "a spreadsheet; save the sheet as CSV (UTF-8)",
    ".xls": "a spreadsheet; save the sheet as CSV (UTF-8)",
}


def open_table(source: str | os.PathLike[str], layout: Layout) -> Table:
    """Open a source by what it is: an existing file or folder first, then FOLDER:SPLIT, then a Hub name.

    Raises:
        DataError: it does not exist, is empty, has an unknown extension or cannot be read.
    """
    path = Path(source)
    if path.is_dir():
        return open_split(path, split_of(path, layout.split, READERS), READERS, given=layout.split is not None)
    ending = path.suffix.lower()
    if ending in READERS and path.exists():
        if not path.is_file():
            raise DataError(f"{source} is no file but a pipe or device; write what comes from it into a file first")
        return READERS[ending](path)
    named = find_split(source)
    if named is not None:
        folder, split = named
        return open_split(folder, split_of(folder, split, READERS, named=True), READERS, given=False)
    file, sign, _ = os.fspath(source).rpartition(":")
    if sign and Path(file).exists():
        raise DataError(
            f"{source}: {file} has no such split; accepted: {file} alone, or FOLDER:SPLIT of a dataset folder"
        )
    hub = _hub_name(source) if isinstance(source, str) else None
    if hub is not None:
        return _read_hub(hub["name"], hub["config"], layout)
    raise DataError(f"{source}: {_why_none(path)}; {accepted_sources()}")


def _why_none(path: Path) -> str:
    """What is wrong with a path that is no source."""
    if not path.exists():
        return "no such file"
    cure = _CURES.get(path.suffix.lower())
    return f"unknown extension {path.suffix!r}{f', {cure}' if cure else ''}"


def accepted_sources() -> str:
    """What a source may be, for a message."""
    files = " or ".join((*READERS, ".npz"))
    return f"accepted: a {files} file, an image folder, a dataset folder, or a Hub name owner/name[:config]"


def _hub_name(source: str) -> re.Match[str] | None:
    """A Hub name, unless it looks like a path: a mistyped file name must not travel over the network."""
    path = Path(source)
    if path.exists() or path.parent.is_dir() or path.suffix[1:].isalpha():
        return None
    return _HUB_NAME.fullmatch(source)


def _read_parquet(path: Path) -> Table:
    import pyarrow.parquet as pq  # type: ignore[import-untyped]

    with refusing(lambda reason: DataError(f"{path}: not a readable Parquet file ({reason})")):
        file = pq.ParquetFile(path)
        names = tuple(file.schema_arrow.names)
        refuse_twins(names, str(path))
        records = list(_records(file, path.stat().st_size))
        classes = _class_names(file.schema_arrow.metadata)
    rows = numbered(str(path), records)
    return Table(str(path), names, rows, pictures=True, class_names=classes, null_ids=True)


def _class_names(metadata: Mapping[bytes, bytes] | None) -> dict[str, tuple[str, ...]]:
    """Names of classes that ``datasets`` wrote into a Parquet file; none where it did not."""
    try:
        features = parse_json((metadata or {})[b"huggingface"].decode())["info"]["features"]
    except (LookupError, TypeError, ValueError):
        return {}
    return names_in(features if isinstance(features, Mapping) else None)


def _records(file: Any, size: int) -> Iterator[Row]:
    """Rows of a Parquet file, in parts: a few bytes of it can stand for any number of equal rows.

    Args:
        file: opened.
        size: bytes that it has.

    Raises:
        DataError: its rows take far more memory than any that differ from each other.
    """
    taken, most = 0, max(ALWAYS_READ, MOST_TIMES * size)
    for batch in file.iter_batches(batch_size=_TOGETHER):
        taken += batch.nbytes + batch.num_rows  # a row of nothing takes no byte, and time all the same
        if taken > most:
            raise DataError(f"its {size} bytes stand for more than {most} of rows; save it again, or give it in parts")
        yield from batch.to_pylist()


def _read_hub(name: str, config: str | None, layout: Layout) -> Table:
    """A Hub dataset.

    Streamed, because otherwise ``datasets`` leaves a copy of the rows in its cache, where no deletion would reach them.
    """
    if not is_reachable():  # asked again and again, for half a minute, its client would say the same
        raise DataError(f"{name}: no such file, and as the name of a Hub dataset: {AWAY}")
    import datasets

    settled = {key for key in ("split", "revision") if getattr(layout, key) is not None}
    with refusing(lambda reason: DataError(f"{name}: cannot be read as a dataset ({reason}); {accepted_sources()}")):
        found = datasets.load_dataset(name, config, split=layout.split, revision=layout.revision, streaming=True)
        if isinstance(found, datasets.IterableDatasetDict):
            if len(found) != 1:
                raise DataError(f"{name}: has the splits {', '.join(sorted(found))}; name one with --split")
            found = next(iter(found.values()))
        records = list(found)
    names = tuple(found.column_names or ()) or None
    rows = numbered(name, records)
    classes = names_in(found.features)
    return Table(name, names, rows, pictures=True, class_names=classes, null_ids=True, settled=frozenset(settled))


READERS: Readers = {
    ".jsonl": read_jsonl,
    ".json": read_json,
    ".csv": read_csv,
    ".tsv": read_csv,
    ".parquet": _read_parquet,
}
