"""Shards in processes of their own, several at the same time; the same bits as one after the other in this process."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import as_completed

from palimpsest.engine.sharded.cutting import ShardCourse
from palimpsest.engine.sharded.foretold import SHARD_ROWS
from palimpsest.engine.sharded.lessons import Learned, Setup, learn_shard
from palimpsest.engine.worker_processes import end_with_parent, worker_processes


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
    died = (
        "a process that learned a shard was ended from outside, as a system does that runs out of memory; what is "
        "learned is kept: the same command goes on from there, and sisa.processes=1 takes the least memory"
    )
    with worker_processes(processes, _begin, threads, died=died) as pool:
        running = {pool.submit(_in_a_process, source, one, _of_one(setup, one)): n for n, one in enumerate(courses)}
        found: dict[int, list[Learned]] = {}
        for future in as_completed(running):
            found[running[future]] = future.result()
            done(len(found), courses[running[future]].shard)
        return [found[n] for n in range(len(courses))]


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
    end_with_parent()
    torch.set_num_threads(threads)
