"""Writing a text file so that a reader sees the old one or the new one, never half of either."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

from palimpsest.durable import put
from palimpsest.errors import DataError

_NO_ROOM = frozenset({errno.ENOSPC, errno.EFBIG, errno.EIO, getattr(errno, "EDQUOT", errno.ENOSPC)})


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
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("w", encoding="utf-8", newline="\n") as stream:
            stream.write(text)
        put(temporary, path, private=private)
    except OSError as error:
        if error.errno in _NO_ROOM:  # nothing that the caller gave is wrong
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise DataError(
            f"cannot write '{path}': {error.strerror or error}; accepted: a file name in a writable folder"
        ) from error
    finally:
        _remove(temporary)


def write_json(path: Path, value: Any) -> None:
    """Replace a JSON file in one move; on return it is on the disk, and nobody but its owner may read it."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(value, sort_keys=True), encoding="utf-8")
    put(temporary, path, private=True)


def _remove(temporary: Path) -> None:
    # The parent may be a file, and then even looking for the temporary file is an error.
    try:
        temporary.unlink(missing_ok=True)
    except OSError:
        return
