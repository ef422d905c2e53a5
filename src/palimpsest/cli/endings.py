"""How a command ends that did not end well: one line, an exit code, and no traceback but in a file or on request."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import sys
import tempfile
import traceback
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from palimpsest.cli.saying import tell_beside, tell_line
from palimpsest.errors import PalimpsestError
from palimpsest.files import NO_ROOM
from palimpsest.printed import as_line
from palimpsest.version import VERSION

UNFORESEEN = 70
"""Exit code of an error that is ours (EX_SOFTWARE of sysexits.h)."""
UNREAD = 141
"""Exit code where nobody read what was told, as of a program that the system stopped for it (128 + SIGPIPE)."""
_OF_RUST = re.compile(r"\(os error (\d+)\)")
_AGAIN = "make room and give the same command again, a run goes on where it stood"
NO_MEMORY = ("out of memory", "can't allocate memory", "Cannot allocate memory", "not enough memory")
MENTIONED = 200  # characters of a message that is not ours
_LIBRARIES = ("torch", "transformers", "peft", "datasets", "safetensors")


def failed(error: BaseException, *, debug: bool = False) -> int:
    """Say in one line why a command did not do what it was asked.

    Args:
        error: that ended it.
        debug: show where, too.

    Returns:
        Its exit code.
    """
    if debug:
        tell_beside("".join(traceback.format_exception(error)).rstrip())
    if isinstance(error, BrokenPipeError):
        return UNREAD  # as with `| head`: whoever read it has had enough
    if isinstance(error, PalimpsestError):
        return refused(str(error), error.exit_code)
    trouble = trouble_of_machine(error)
    if trouble is not None:
        return refused(f"{trouble}; --debug shows where", 1)
    return refused(_unforeseen(error, debug=debug), UNFORESEEN)


def refused(message: str, code: int) -> int:
    """One line on stderr."""
    tell_line(f"palimpsest: error: {message}")
    return code


def trouble_of_machine(error: BaseException) -> str | None:
    """What became of the machine under a command: a full disk, a folder that was taken away, no memory; else None."""
    text = str(error)
    if isinstance(error, OSError) and error.errno is not None:
        place = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes) else ""
        return f"{place}{error.strerror or error}{_what_helps(error.errno)}"
    if (number := _OF_RUST.search(text)) is not None:  # safetensors has errors of its own for it
        return f"{os.strerror(int(number[1]))} ({as_line(text, MENTIONED)}){_what_helps(int(number[1]))}"
    if isinstance(error, MemoryError) or _says(text, NO_MEMORY):
        return f"the memory of this machine was not enough ({as_line(text, MENTIONED) or 'MemoryError'})"
    return None


def _what_helps(number: int) -> str:
    """Against an error of the system, as the end of a line; empty where only who knows the machine can tell."""
    return f"; {_AGAIN}" if number in NO_ROOM else ""


def _says(text: str, any_of: Iterable[str]) -> bool:
    return any(words in text for words in any_of)


def _unforeseen(error: BaseException, *, debug: bool) -> str:
    what = f"{type(error).__name__}: {as_line(str(error), MENTIONED)}".rstrip(": ")
    log = None if debug else _logged(error)
    if log is not None:
        report = f"please report it to who maintains palimpsest, with the file {log}; --debug shows the same here"
    else:
        report = "please report it to who maintains palimpsest, with what --debug shows"
    return f"this should not have happened ({what}{_place_of(error)}); {report}"


def _place_of(error: BaseException) -> str:
    """The innermost place in our own files, such as " in models/load.py, line 9"."""
    home = Path(__file__).parents[1]
    ours = [f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename).is_relative_to(home)]
    if not ours:
        return ""
    return f" in {Path(ours[-1].filename).relative_to(home).as_posix()}, line {ours[-1].lineno}"


def _logged(error: BaseException) -> str | None:
    """Write the traceback to a file that only this user reads; None where there is no room for one.

    Nothing else of a run goes there: no rows, no arguments, no values of variables.
    """
    with contextlib.suppress(OSError):
        descriptor, name = tempfile.mkstemp(prefix="palimpsest-", suffix=".log")
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(f"{_versions()}\n\n{''.join(traceback.format_exception(error))}")
        return name
    return None


def _versions() -> str:
    found = [f"palimpsest {VERSION}", f"Python {platform.python_version()}", platform.platform()]
    for library in _LIBRARIES:
        with contextlib.suppress(PackageNotFoundError):
            found.append(f"{library} {version(library)}")
    return f"{', '.join(found)}; {Path(sys.executable).name}"
