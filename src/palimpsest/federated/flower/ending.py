"""Ends Flower's programs with all that they started; as a program, when the command that started them is gone.

    python -m palimpsest.federated.flower.ending PID ...

The command holds the other end of this program's standard input. However it ends, by ``kill -9`` too, that end is
closed, and nothing of what it started stays: a server that nobody waits for would go on writing into its output.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress

import psutil

GOES_IN = 15.0
"""Seconds that a process has to end when it is asked to."""


def process_tree(pid: int) -> list[psutil.Process]:
    """A process and all that it started, the process first; none where it has ended."""
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    return []


def end_families(pids: Iterable[int]) -> None:
    """Ask processes to end, the last first, then make them, with all that they started, be it in sessions of its own.

    Args:
        pids: of processes that are ours.
    """
    families = [family for pid in pids if (family := process_tree(pid))]
    for first, *_ in reversed(families):
        with suppress(psutil.NoSuchProcess):
            first.terminate()
    for left in psutil.wait_procs([one for family in families for one in family], timeout=GOES_IN)[1]:
        with suppress(psutil.NoSuchProcess):
            left.kill()


@contextmanager
def ended_with_us(pids: Iterable[int]) -> Iterator[None]:
    """Within the block processes end when this one does, whatever ends it; behind it they are the caller's again.

    Args:
        pids: of processes that are ours.
    """
    command = [sys.executable, "-m", __name__, *map(str, pids)]
    nowhere = subprocess.DEVNULL
    watcher = subprocess.Popen(  # noqa: S603 (this file)
        command, stdin=subprocess.PIPE, stdout=nowhere, stderr=nowhere, start_new_session=True
    )
    try:
        yield
    finally:
        watcher.kill()
        watcher.communicate()


def wait_and_end(pids: Sequence[str]) -> None:
    """Wait until the command is gone, and end what it started."""
    for one in (signal.SIGINT, signal.SIGTERM):
        signal.signal(one, signal.SIG_IGN)
    sys.stdin.buffer.read()
    end_families(map(int, pids))


if __name__ == "__main__":
    wait_and_end(sys.argv[1:])
