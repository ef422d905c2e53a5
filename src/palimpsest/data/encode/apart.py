"""Work that runs what others wrote, in a process that can be given up.

A template may loop for ever or ask for all memory, and neither can be seen before. The process is a fork, so it starts
in milliseconds and knows all that this one does. It answers until it is closed; where a system has no fork the work is
done here, without bounds.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import warnings
from collections.abc import Callable
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any, NoReturn

from palimpsest.errors import DataError, ModelError, UsageError
from palimpsest.untrusted import reason_of

SECONDS = 10.0
"""For one piece of work."""
MEMORY = 2**30
"""Bytes beyond what the process has when it starts."""
LONGEST_ANSWER = 2**28
_KINDS: dict[str, type[UsageError]] = {kind.__name__: kind for kind in (DataError, ModelError)}


class Apart:
    """A function that is called in another process."""

    def __init__(self, work: Callable[[Any], Any], what: str) -> None:
        """Nothing is started yet.

        Args:
            work: of one value; takes and gives what JSON can write.
            what: words for an error, such as "the chat template".
        """
        self._work, self._what, self._seconds = work, what, SECONDS
        self._process: tuple[int, Connection] | None = None

    def __call__(self, value: Any) -> Any:
        """What the function gives.

        Raises:
            DataError: it raised something, took too long or too much memory.
            ModelError: it raised one.
        """
        answer = self._asked(value) if hasattr(os, "fork") else _answer(self._work, value)
        if "error" not in answer:
            return answer["value"]
        kind = _KINDS.get(answer["kind"])
        if kind is not None:
            raise kind(answer["error"])
        raise DataError(f"{self._what} refuses these messages ({answer['error']})")

    def close(self) -> None:
        """End the process, if there is one."""
        if self._process is None:
            return
        number, connection = self._process
        self._process = None
        connection.close()
        os.kill(number, signal.SIGKILL)
        os.waitpid(number, 0)

    def _asked(self, value: Any) -> dict[str, Any]:
        if self._process is None:
            self._process = _started(self._work, self._seconds)
        connection = self._process[1]
        try:
            connection.send_bytes(json.dumps(value).encode())
            if not connection.poll(self._seconds):
                self.close()
                raise DataError(f"{self._what} took more than {self._seconds:g} seconds for these messages; mend it")
            answer: dict[str, Any] = json.loads(connection.recv_bytes(LONGEST_ANSWER))
        except (EOFError, OSError):
            self.close()
            raise DataError(f"{self._what} made more of these messages than memory holds; mend it") from None
        return answer


def _started(work: Callable[[Any], Any], seconds: float) -> tuple[int, Connection]:
    """Number of a new process, and the way to it."""
    here, there = Pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # other threads: theirs are no locks that Python code takes
        number = os.fork()
    if number == 0:
        _serve(there, work, seconds)
    there.close()
    return number, here


def _serve(connection: Connection, work: Callable[[Any], Any], seconds: float) -> NoReturn:
    """Answer until nobody asks any more. Nothing of the process that this is a copy of may be ended or written."""
    try:
        gc.freeze()
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        _close_all_but(connection.fileno())
        _bound_memory()
        while True:
            value = json.loads(connection.recv_bytes())
            _bound_time(seconds)
            connection.send_bytes(json.dumps(_answer(work, value)).encode())
    finally:
        os._exit(0)


def _answer(work: Callable[[Any], Any], value: Any) -> dict[str, Any]:
    try:
        return {"value": work(value)}
    except UsageError as error:
        return {"kind": type(error).__name__, "error": str(error)}
    except Exception as error:  # whatever the code of others does
        return {"kind": "", "error": reason_of(error)}


def _close_all_but(kept: int) -> None:
    """Files, and locks on them, are the other process's; what is printed here would stand between its lines."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nowhere, standard)
    last = os.sysconf("SC_OPEN_MAX")
    os.closerange(3, kept)
    os.closerange(kept + 1, last if last > 0 else 4096)


def _bound_memory() -> None:
    import resource

    import psutil

    _, most = resource.getrlimit(resource.RLIMIT_AS)
    allowed = psutil.Process().memory_info().vms + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (allowed if most == resource.RLIM_INFINITY else min(allowed, most), most))


def _bound_time(seconds: float) -> None:
    """Die some time after the bound: whoever would end this process may be dead."""
    import resource

    used = resource.getrusage(resource.RUSAGE_SELF)
    _, most = resource.getrlimit(resource.RLIMIT_CPU)
    allowed = int(used.ru_utime + used.ru_stime + 2 * seconds) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (allowed if most == resource.RLIM_INFINITY else min(allowed, most), most))
