"""Writing a text file so that a reader sees the old one or the new one, never half of either."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path

from palimpsest.durable import check_held_still, put
from palimpsest.errors import DataError, UsageError, reachable

NO_ROOM = frozenset({errno.ENOSPC, errno.EFBIG, errno.EIO, getattr(errno, "EDQUOT", errno.ENOSPC)})
"""Numbers of errors of a disk that is full or broken: nothing that anybody gave is wrong."""


def write_atomic(path: Path, text: str, *, private: bool = False) -> None:
    """Write UTF-8 text to a temporary neighbour, flush it to the disk, then rename it over ``path``.

    Args:
        path: the file; missing parent folders are made.
        text: its whole content.
        private: nobody but its owner may read it.

    Raises:
        DataError: the place cannot be written to; no temporary file is left.
        OSError: the disk is full, or broken.
    """
    check_held_still(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("w", encoding="utf-8", newline="\n") as stream:
            stream.write(text)
        put(temporary, path, private=private)
    except OSError as error:
        if error.errno in NO_ROOM:  # nothing that the caller gave is wrong
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise DataError(
            f"cannot write '{path}': {error.strerror or error}; accepted: a file name in a writable folder"
        ) from error
    finally:
        _remove(temporary)


def check_replaceable(path: Path, marks: Sequence[str], what: str) -> None:
    """Refuse to write over what is none of our files: anything else, a link, a device.

    Args:
        path: where a file of ours is to go.
        marks: texts that every file of its kind has.
        what: it is, in words.

    Raises:
        DataError: something else is there.
    """
    reachable(path, what)
    if not os.path.lexists(path):
        return
    is_plain = path.is_file() and not path.is_symlink()
    if not is_plain or not all(mark.encode() in path.read_bytes() for mark in marks):
        raise DataError(f"{path} is there, and is no {what}; move it, or give another --output")


def check_makeable_folder(folder: Path, what: str, error: type[UsageError]) -> None:
    """Refuse, without making it, a folder that is not there and cannot be made.

    Args:
        folder: to be made, with the folders that it lies in.
        what: words for it, such as "output".
        error: the kind to raise.

    Raises:
        UsageError: a file, or a folder that may not be written to, is in its way.
    """
    if folder.exists():
        return
    place = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
    problem = errno.ENOTDIR if not place.is_dir() else errno.EACCES
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        raise error(f"{what} {folder}: {os.strerror(problem)}: {place}; give a folder that can be made")


def _remove(temporary: Path) -> None:
    # The parent may be a file, and then even looking for the temporary file is an error.
    try:
        temporary.unlink(missing_ok=True)
    except OSError:
        return
