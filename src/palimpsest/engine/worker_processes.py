"""Work in processes of their own: none outlives the run, one that died is said in a line, Ctrl-C ends them all."""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.context import SpawnContext, SpawnProcess
from multiprocessing.process import BaseProcess
from types import ModuleType
from typing import Any

from palimpsest.errors import RunError


class _WithoutMain(SpawnProcess):
    """A process that does not run the user's script again, as spawned ones do: one without a guard would do it all."""

    @staticmethod
    def _Popen(process_obj: BaseProcess) -> Any:
        main = sys.modules["__main__"]
        sys.modules["__main__"] = ModuleType("__main__")
        try:
            return SpawnProcess._Popen(process_obj)
        finally:
            sys.modules["__main__"] = main


class _Context(SpawnContext):
    Process = _WithoutMain


@contextmanager
def worker_processes(
    count: int, begin: Callable[..., None], *arguments: Any, died: str
) -> Iterator[ProcessPoolExecutor]:
    """Processes that are there in the block; what they are given is of modules, none of the user's script.

    Args:
        count: at the same time.
        begin: what each does first; a function of a module.
        arguments: of ``begin``.
        died: what to say where a system ended one, as it does when it runs out of memory.

    Raises:
        RunError: one died.
        KeyboardInterrupt: Ctrl-C; what they were at is ended.
    """
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(count, _Context(), initializer=begin, initargs=arguments)
    try:
        yield pool
    except BrokenProcessPool as error:
        raise RunError(died) from error
    except KeyboardInterrupt:
        for worker in set(multiprocessing.active_children()) - others:
            worker.terminate()  # one that trains writes its checkpoint first, or it is there
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def end_with_parent() -> None:
    """End this process when the run was killed: what it still wrote would meet the run that goes on."""
    threading.Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
