"""Files that survive a power cut: flushed to the disk before they are named, and their names flushed after.

A rename alone is enough against a killed process; without these flushes a machine that loses power may keep the new
name and lose the bytes behind it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path


def put(temporary: Path, path: Path, *, private: bool = False) -> None:
    """Rename a finished file or folder to its place; on return both content and name are on the disk.

    A file gets the mode of any new one: who writes a temporary file often lets nobody else read it.

    Args:
        temporary: the file, or a folder whose files were flushed before (``flush_tree``); on the same file system.
        path: its place; a file there is replaced in one move.
        private: nobody but its owner may read the file: it tells of rows, and lies there only until a run has ended.

    Raises:
        OSError: the place cannot be written to.
    """
    if private:
        temporary.chmod(0o600)
    elif temporary.is_file():
        with_usual_modes(temporary)
    flush(temporary)
    os.replace(temporary, path)
    flush(path.parent)


def with_usual_modes(place: Path, leaving: Collection[str] = ()) -> None:
    """Give a file, or every file below a folder, the permissions that this process gives to new files (its umask).

    Args:
        place: there. safetensors writes to a temporary file that only its owner may read, and renames it as it is.
        leaving: names of files and folders in it that stay as they are.
    """
    files = [place] if place.is_file() else _files_below(place, leaving)
    if os.name == "nt" or not files:
        return
    probe = files[0].with_name(f".{files[0].name}.{os.getpid()}.tmp")
    os.close(os.open(probe, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))  # asking for the umask would change it
    try:
        usual = stat.S_IMODE(probe.stat().st_mode)
    finally:
        probe.unlink()
    for path in files:
        if stat.S_IMODE(path.stat().st_mode) != usual:
            path.chmod(usual)


def _files_below(folder: Path, leaving: Collection[str]) -> list[Path]:
    tops = [path for path in folder.iterdir() if path.name not in leaving]
    return [path for top in tops for path in (top, *top.rglob("*")) if path.is_file()]


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
