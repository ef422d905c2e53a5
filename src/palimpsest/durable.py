"""Files that survive a power cut: flushed to the disk before they are named, and their names flushed after.

A rename alone is enough against a killed process; without these flushes a machine that loses power may keep the new
name and lose the bytes behind it.
"""

from __future__ import annotations

import os
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
