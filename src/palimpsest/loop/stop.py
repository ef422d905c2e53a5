"""Ctrl-C and SIGTERM while a run trains: a wish, heeded at the next safe point, after the checkpoint there.

Only the main thread of a process may listen, and only where nobody else does: a program with handlers of its own keeps
them, and a run in another thread is stopped by whatever its program does.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
NOBODYS = (signal.SIG_DFL, signal.default_int_handler)
STANDARD_ERROR = 2


class Stop:
    """Was a run asked to stop?

    Attributes:
        heard: signals that came while it listened. The same one again stops at once.
    """

    def __init__(self) -> None:
        self.heard: set[int] = set()

    def heed(self) -> None:
        """Call this where all work is written down.

        Raises:
            KeyboardInterrupt: the run was asked to stop.
        """
        if self.heard:
            raise KeyboardInterrupt

    @contextlib.contextmanager
    def listening(self, unit: str) -> Iterator[None]:
        """Hear signals in the block; afterwards the handlers are those from before.

        Args:
            unit: of work that is finished first, in a word: "step" or "round".

        Raises:
            KeyboardInterrupt: one came, and the block ended by itself.
        """

        def hear(number: int, _frame: FrameType | None) -> None:
            if number in self.heard:
                raise KeyboardInterrupt
            if not self.heard:
                _say(f"stopping: this {unit} is finished and written down first; Ctrl-C again stops at once")
            self.heard.add(number)

        before = {number: signal.getsignal(number) for number in SIGNALS if _may_listen(number)}
        try:
            for number in before:
                signal.signal(number, hear)
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        self.heed()


def _may_listen(number: int) -> bool:
    return threading.current_thread() is threading.main_thread() and signal.getsignal(number) in NOBODYS


def _say(words: str) -> None:
    """One line on stderr, past Python's buffers: a handler may have interrupted them in the middle of a line."""
    with contextlib.suppress(OSError):
        os.write(STANDARD_ERROR, f"\n{words}\n".encode())
