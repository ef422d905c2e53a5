"""Shards in processes of their own, several at the same time; the same bits as one after the other in this process."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool

from palimpsest.engine.sharded.cutting import ShardCourse
from palimpsest.engine.sharded.foretold import SHARD_ROWS
from palimpsest.engine.sharded.lessons import Learned, Setup, learn_shard
from palimpsest.errors import RunError


def usual_processes(threads: int, *, on_accelerator: bool) -> int:
    """As many as the processors bear that this process may use; one on an accelerator, which they would share."""
    if on_accelerator:
        return 1
    able = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, able // threads)


def learn_side_by_side(
    source: tuple[str, str | None],
    courses: Sequence[ShardCourse],
    setup: Setup,
    *,
    processes: int,
    threads: int,
    done: Callable[[int, int], None],
) -> list[list[Learned]]:
    """Learn shards, each in a process that loads the model itself.

    Args:
        source: of the model, and its revision.
        courses: what each shard learns.
        setup: how, and from which sets.
        processes: at the same time.
        threads: of each; as many as one process alone would use, because their number may decide the last bit.
        done: told how many shards are done, and the last one's number.

    Returns:
        What the slices of each took.

    Raises:
        RunError: a process died.
    """
    context = multiprocessing.get_context("spawn")
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(processes, mp_context=context, initializer=_begin, initargs=(threads,))
    try:
        running = {pool.submit(_in_a_process, source, one, _of_one(setup, one)): n for n, one in enumerate(courses)}
        found: dict[int, list[Learned]] = {}
        for future in as_completed(running):
            found[running[future]] = future.result()
            done(len(found), courses[running[future]].shard)
        return [found[n] for n in range(len(courses))]
    except BrokenProcessPool as error:
        raise RunError(
            "a process that learned a shard was ended from outside, as a system does that runs out of memory; what is "
            "learned is kept: the same command goes on from there, and sisa.processes=1 takes the least memory"
        ) from error
    except KeyboardInterrupt:
        for worker in set(multiprocessing.active_children()) - others:
            worker.terminate()  # its last checkpoint is there
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _of_one(setup: Setup, course: ShardCourse) -> Setup:
    """With the rows of one shard."""
    return setup._replace(sets={**setup.sets, SHARD_ROWS: setup.sets[SHARD_ROWS].subset(course.lessons[-1].ids)})


def _in_a_process(source: tuple[str, str | None], course: ShardCourse, setup: Setup) -> list[Learned]:
    from palimpsest.engine.sharded.sharded_run import without_ensemble
    from palimpsest.models.load import device, load

    loaded = load(source[0], revision=source[1], tokenizer_needed=False)
    loaded.model.to(device())
    without_ensemble(loaded.model)
    return learn_shard(loaded.model, course, setup)


def _begin(threads: int) -> None:
    """A worker: it dies with its parent, and leaves Ctrl-C to it."""
    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_die_with_parent, daemon=True).start()
    torch.set_num_threads(threads)


def _die_with_parent() -> None:
    """End this process when the run was killed: what it still wrote would meet the run that goes on."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
