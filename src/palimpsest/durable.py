"""Files that survive a power cut: flushed to the disk before they are named, and their names flushed after.

A rename alone is enough against a killed process; without these flushes a machine that loses power may keep the new
name and lose the bytes behind it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def put(temporary: Path, path: Path) -> None:
    """Rename a finished file or folder to its place; on return both content and name are on the disk.

    Args:
        temporary: the file, or a folder whose files were flushed before (``flush_tree``); on the same file system.
        path: its place; a file there is replaced in one move.

    Raises:
        OSError: the place cannot be written to.
    """
    flush(temporary)
    os.replace(temporary, path)
    flush(path.parent)


@contextmanager
def held(folder: Path) -> Iterator[bool]:
    """Is a folder this process's alone in the block? The system frees it when its holder dies.

    Args:
        folder: there; it may be renamed in the block. Windows locks no folders: there the answer is always yes.
    """
    if os.name == "nt":
        yield True
        return
    import fcntl

    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)


def flush(path: Path) -> None:
    """Have the system write one file's content, or one folder's names, to the disk."""
    if os.name == "nt" and path.is_dir():
        return  # Windows opens no folders, and keeps names in order by itself
    descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def flush_tree(folder: Path) -> None:
    """Flush every file and folder below a folder, and the folder itself."""
    for path in (*sorted(folder.rglob("*")), folder):
        flush(path)
