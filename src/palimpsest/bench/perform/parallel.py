"""Tasks that wait for each other, in parallel processes.

A task is a function of the results of the tasks before it. What it did is on the disk when it returns (``cache.py``),
so a bench that died is run again as a whole and every finished task returns at once.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

from palimpsest.engine.worker_processes import end_with_parent, worker_processes
from palimpsest.errors import Interrupted

Done = Callable[[str, int, int], None]


@dataclass(frozen=True)
class WaitingTask:
    """One piece of work.

    Attributes:
        work: a function of a module, so that another process finds it.
        arguments: its first arguments.
        after: tasks whose results are its further arguments, in this order.
    """

    work: Callable[..., Any]
    arguments: tuple[Any, ...] = ()
    after: tuple[str, ...] = ()


def run_tasks(tasks: Mapping[str, WaitingTask], *, jobs: int, threads: int | None, done: Done) -> dict[str, Any]:
    """Run all tasks, each as soon as those before it are done.

    Args:
        tasks: name -> task, each after those that it waits for; of several that could begin, the first one does.
        jobs: processes; 1 = this one.
        threads: CPU threads of each process, or None to leave them.
        done: called with (name, tasks done, all tasks).

    Returns:
        Name -> result.

    Raises:
        Exception: whatever the first failing task raised; tasks that have not begun never do.
        Interrupted: Ctrl-C or SIGTERM stopped it; says how many tasks are done.
        RunError: a process died.
    """
    finished: list[str] = []

    def told(name: str, count: int, total: int) -> None:
        finished.append(name)
        done(name, count, total)

    try:
        return _run(tasks, jobs, threads, told)
    except KeyboardInterrupt as stop:
        raise Interrupted(f"after {len(finished)} of {len(tasks)} steps of the bench") from stop


def _run(tasks: Mapping[str, WaitingTask], jobs: int, threads: int | None, done: Done) -> dict[str, Any]:
    if jobs == 1:
        return _here(tasks, threads, done)
    died = (
        "a process of the bench was ended from outside, as a system does that runs out of memory; what is done is "
        "kept: the same command with fewer --jobs goes on from there"
    )
    with worker_processes(jobs, _begin_worker, threads, died=died) as pool:
        return _spread(pool, tasks, jobs, done)


def _here(tasks: Mapping[str, WaitingTask], threads: int | None, done: Done) -> dict[str, Any]:
    _use_threads(threads)
    results: dict[str, Any] = {}
    for name, task in tasks.items():
        results[name] = task.work(*task.arguments, *(results[n] for n in task.after))
        done(name, len(results), len(tasks))
    return results


def _spread(pool: ProcessPoolExecutor, tasks: Mapping[str, WaitingTask], jobs: int, done: Done) -> dict[str, Any]:
    results: dict[str, Any] = {}
    running: dict[Future[Any], str] = {}
    waiting = dict(tasks)
    while waiting or running:
        ready = [name for name, task in waiting.items() if all(n in results for n in task.after)]
        for name in ready[: jobs - len(running)]:
            task = waiting.pop(name)
            running[pool.submit(task.work, *task.arguments, *(results[n] for n in task.after))] = name
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            name = running.pop(future)
            results[name] = future.result()
            done(name, len(results), len(tasks))
    return results


def _begin_worker(threads: int | None) -> None:
    # Beside training, where a run listens, a worker may die without a word: what it did is on the disk.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    end_with_parent()
    _use_threads(threads)


def _use_threads(threads: int | None) -> None:
    if threads is not None:
        import torch

        torch.set_num_threads(threads)
