"""Files that survive a power cut: flushed to the disk before they are named, and their names flushed after.

A rename alone is enough against a killed process; without these flushes a machine that loses power may keep the new
name and lose the bytes behind it.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from palimpsest.errors import LostFolder

_HELD: ContextVar[tuple[tuple[Path, int | None], ...]] = ContextVar("held", default=())
"""Folders that this thread holds, and their descriptors: who writes below one need not know of its lock."""


def put(temporary: Path, path: Path, *, private: bool = False) -> None:
    """Rename a finished file or folder to its place; on return both content and name are on the disk.

    A file gets the mode of any new one: who writes a temporary file often lets nobody else read it.

    Args:
        temporary: the file, or a folder whose files were flushed before (``flush_tree``); on the same file system.
        path: its place; a file there is replaced in one move.
        private: nobody but its owner may read the file: it tells of rows, and lies there only until a run has ended.

    Raises:
        OSError: the place cannot be written to.
        LostFolder: it is in a folder that was held and is no longer there.
    """
    check_held_still(temporary)
    if private:
        temporary.chmod(0o600)
    elif temporary.is_file():
        with_usual_modes(temporary)
    flush(temporary)
    os.replace(temporary, path)
    flush(path.parent)


def put_copy(source: Path, path: Path) -> None:
    """A second file of the same content, for its owner alone, in one move."""
    temporary = path.with_suffix(".tmp")
    shutil.copyfile(source, temporary)
    put(temporary, path, private=True)


def with_usual_modes(place: Path, leaving: Collection[str] = ()) -> None:
    """Give a file, or every file below a folder, the permissions that this process gives to new files (its umask).

    Args:
        place: there. safetensors writes to a temporary file that only its owner may read, and renames it as it is.
        leaving: names of files and folders in it that stay as they are.
    """
    files = [place] if place.is_file() else _files_below(place, leaving)
    if os.name == "nt" or not files:
        return
    usual = _usual_mode(files[0])
    for path in files:
        if stat.S_IMODE(path.stat().st_mode) != usual:
            path.chmod(usual)


def _files_below(folder: Path, leaving: Collection[str]) -> list[Path]:
    tops = [path for path in folder.iterdir() if path.name not in leaving]
    return [path for top in tops for path in (top, *top.rglob("*")) if path.is_file()]


def _usual_mode(file: Path) -> int:
    """The mode of a new file beside this one; asking for the umask would change it."""
    probe = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    os.close(os.open(probe, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    try:
        return stat.S_IMODE(probe.stat().st_mode)
    finally:
        probe.unlink()


@contextmanager
def held(folder: Path) -> Iterator[bool]:
    """Is a folder this process's alone in the block? The system frees it when its holder dies.

    Args:
        folder: there; it may be renamed in the block. Windows locks no folders: there the answer is always yes.

    Raises:
        OSError: it is not there, or a link.
    """
    descriptor = None if os.name == "nt" else os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        free = descriptor is None or (_is_locked(descriptor) and _is_at(folder, descriptor))
        before = _HELD.get()
        _HELD.set((*before, (Path(os.path.abspath(folder)), descriptor)) if free else before)
        try:
            yield free
        finally:
            _HELD.set(before)
    finally:
        if descriptor is not None:
            os.close(descriptor)


def is_held(folder: Path) -> bool:
    """Does this thread hold that folder?"""
    place = Path(os.path.abspath(folder))
    return any(place == mine for mine, _ in _HELD.get())


def innermost_held() -> Path | None:
    """The folder that this thread took last and still holds; None without one."""
    holding = _HELD.get()
    return holding[-1][0] if holding else None


def check_held_still(path: Path) -> None:
    """Refuse to write below a held folder that was taken away: what is there now may be another process's.

    Args:
        path: of a file or folder that is about to be written, read or renamed; not below a held folder, nothing is
            asked. Between this look and the write is a moment that only the lock of the other could close.

    Raises:
        LostFolder: it was removed or renamed; nothing was written to what is in its place.
    """
    place = os.path.abspath(path)
    for folder, descriptor in _HELD.get():
        if descriptor is None or not f"{place}{os.sep}".startswith(f"{folder}{os.sep}"):
            continue
        if not _is_at(folder, descriptor):
            raise LostFolder(
                f"{folder} was removed or replaced while this run wrote to it; what is there now was left alone; once "
                "no other process writes there, the same command begins anew"
            )


def _is_locked(descriptor: int) -> bool:
    """Take the lock of an open folder, if nobody has it."""
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_at(folder: Path, descriptor: int) -> bool:
    """Is the folder of that name the one that is open?"""
    try:
        there = os.stat(folder, follow_symlinks=False)
    except OSError:
        return False
    return os.path.samestat(there, os.fstat(descriptor))


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
    check_held_still(folder)
    for path in (*sorted(folder.rglob("*")), folder):
        flush(path)
