"""All that the command line writes to a terminal.

Names, rows and messages of others may hold anything, so nothing else in this folder prints: what is no visible
character, or lacks in the terminal's encoding, is shown as an escape.

Standard output is what was asked for, and an error there is one (a full disk). Standard error is told beside the work,
which goes on where nobody can hear it.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any

from palimpsest.printed import as_line, in_json, is_visible, json_escape, printable


def tell(text: str, end: str = "\n") -> None:
    """Write lines to standard output."""
    _write(sys.stdout, _in_encoding("\n".join(map(printable, text.split("\n"))), sys.stdout) + end)


def tell_json(text: str) -> None:
    """Write JSON to standard output; what is escaped there means the same to whoever reads it as JSON."""
    encoding = _encoding_of(sys.stdout)
    safe = in_json(text)
    if not _fits(safe, encoding):
        safe = "".join(character if _fits(character, encoding) else json_escape(character) for character in safe)
    _write(sys.stdout, safe + "\n")


def tell_beside(text: str) -> None:
    """Write lines to standard error, as far as anybody hears."""
    with contextlib.suppress(OSError, ValueError):  # closed by whoever read it
        lines = "\n".join(map(printable, text.split("\n")))
        _write(sys.stderr, _in_encoding(lines, sys.stderr) + "\n", at_once=True)


def tell_line(text: str) -> None:
    """Write one line of bounded length to standard error."""
    tell_beside(as_line(text))


def is_terminal() -> bool:
    """Is standard error a terminal? A process may have none, or have closed it."""
    try:
        return sys.stderr is not None and sys.stderr.isatty()
    except ValueError:
        return False


def flush_out() -> None:
    """Have all that was told written.

    Raises:
        OSError: nobody reads it, or there is no room.
    """
    if sys.stdout is not None:
        sys.stdout.flush()


def drop_unwritten() -> None:
    """Let go of what could not be written to standard output: Python would try once more while it ends, and say so."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


@contextlib.contextmanager
def only_visible() -> Iterator[None]:
    """In the block, what libraries log, warn and print is escaped, too: it may repeat what a file of others says."""
    with contextlib.ExitStack() as stack:
        for stream, redirected in (
            (sys.stdout, contextlib.redirect_stdout),
            (sys.stderr, contextlib.redirect_stderr),
        ):
            if stream is not None:
                stack.enter_context(redirected(Escaping(stream)))
        yield


class Escaping:
    """A text stream in front of another one."""

    def __init__(self, plain: Any) -> None:
        self.plain = plain

    def write(self, text: str) -> int:
        """Write a text with all but line breaks, tabs and returns of the carriage escaped."""
        if not isinstance(text, str):  # typer asks so whether a stream takes bytes
            raise TypeError(f"write() takes text, not {type(text).__name__}")
        kept = "".join(c if c in "\n\t\r" or is_visible(c) else printable(c) for c in text)
        self.plain.write(_in_encoding(kept, self.plain))
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Write several."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.plain, name)


def plain_stderr() -> Any:
    """Standard error for who escapes what it writes and moves the cursor itself: progress bars."""
    return sys.stderr.plain if isinstance(sys.stderr, Escaping) else sys.stderr


def _write(stream: Any, text: str, *, at_once: bool = False) -> None:
    if stream is not None:  # a process without standard streams
        print(text, end="", file=stream, flush=at_once)


def _in_encoding(text: str, stream: Any) -> str:
    encoding = _encoding_of(stream)
    return text if _fits(text, encoding) else text.encode(encoding, "backslashreplace").decode(encoding)


def _encoding_of(stream: Any) -> str:
    return getattr(stream, "encoding", None) or "utf-8"


def _fits(text: str, encoding: str) -> bool:
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True
