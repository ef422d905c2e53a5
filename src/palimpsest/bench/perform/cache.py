"""Finished work, by the digest of all that defines it: what is there is not done again.

So a bench that died is simply run again, rows that begin alike share their first runs, and benches share their oracles.
A lock per piece of work keeps two processes from doing the same; the system frees it when its holder dies.
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel

from palimpsest.models.sealed_json import read_sealed, write_sealed

Value = TypeVar("Value", bound=BaseModel)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of a piece of work; waits while another process holds it.

    Args:
        path: of the work; the lock is the empty file ``<path>.lock`` beside it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(path.name + ".lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # freed when the file is closed, also by the death of the process
        yield


def remembered(path: Path, schema: type[Value], compute: Callable[[], Value]) -> Value:
    """A value that was computed before, or is now.

    Args:
        path: its JSON file, named by the digest of all that it depends on.
        schema: of the value.
        compute: makes it.
    """
    with locked(path):
        if path.is_file():
            with suppress(ValueError):  # damaged, or written by another version: compute it again
                return schema.model_validate_json(json.dumps(read_sealed(path)))
        value = compute()
        write_sealed(path, json.loads(value.model_dump_json()))
        return value
