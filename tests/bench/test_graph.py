"""Tasks run in an order that respects what they wait for, here and in other processes, and die with the bench."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from palimpsest.bench.perform.parallel import WaitingTask, run_tasks
from palimpsest.errors import DataError, Interrupted

WORK = """
import os, time
from pathlib import Path

def work(folder):
    (Path(folder) / str(os.getpid())).touch()
    time.sleep(60)
"""
WAITS_FOREVER = """
import sys
from palimpsest.bench.perform.parallel import WaitingTask, run_tasks
from waiting_work import work

run_tasks({"a": WaitingTask(work, (sys.argv[1],))}, jobs=2, threads=None, done=print)
"""


def waiting_script(folder: Path) -> Path:
    """A script whose one task waits; what it works by is a module, as workers do not run the script again."""
    (folder / "waiting_work.py").write_text(WORK)
    (folder / "waits.py").write_text(WAITS_FOREVER)
    return folder / "waits.py"


def add(*numbers: int) -> int:
    return sum(numbers)


def fail() -> None:
    raise DataError("no such class; accepted: others")


TASKS = {
    "two": WaitingTask(add, (1, 1)),
    "three": WaitingTask(add, (3,)),
    "five": WaitingTask(add, after=("two", "three")),
    "eleven": WaitingTask(add, (1,), after=("five", "five")),
}


def test_results_are_handed_on():
    seen = []
    results = run_tasks(TASKS, jobs=1, threads=None, done=lambda *a: seen.append(a))
    assert results == {"two": 2, "three": 3, "five": 5, "eleven": 11}
    assert seen[-1] == ("eleven", 4, 4)


def test_ctrl_c_says_how_many_are_done():
    def stop(name: str, count: int, total: int) -> None:
        if count == 2:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted, match=r"^after 2 of 4 steps of the bench$"):
        run_tasks(TASKS, jobs=1, threads=None, done=stop)


@pytest.mark.slow
@pytest.mark.parametrize("to_the_group", [True, False], ids=["Ctrl-C", "to the bench alone"])
def test_workers_end_with_an_interrupted_bench_and_without_a_word(tmp_path, to_the_group):
    script, pids = waiting_script(tmp_path), tmp_path / "pids"
    pids.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "src")}
    command = [sys.executable, script, pids]
    bench = subprocess.Popen(command, env=environment, start_new_session=True, stderr=subprocess.PIPE, text=True)
    assert within(30, lambda: list(pids.iterdir()))
    if to_the_group:
        os.killpg(bench.pid, signal.SIGINT)
    else:
        bench.send_signal(signal.SIGINT)
    said = bench.communicate(timeout=20)[1]
    assert not alive(int(next(pids.iterdir()).name))
    assert said.rstrip().endswith("Interrupted: after 0 of 1 steps of the bench")
    assert "Process Spawn" not in said, "a worker's traceback"


@pytest.mark.slow
def test_other_processes_find_the_same():
    assert run_tasks(TASKS, jobs=2, threads=None, done=lambda *a: None) == {
        "two": 2,
        "three": 3,
        "five": 5,
        "eleven": 11,
    }
    assert not multiprocessing.active_children()


@pytest.mark.slow
def test_a_failing_task_ends_everything_with_its_own_error():
    tasks = {"bad": WaitingTask(fail), "after": WaitingTask(add, after=("bad",))}
    with pytest.raises(DataError, match="no such class"):
        run_tasks(tasks, jobs=2, threads=None, done=lambda *a: None)


@pytest.mark.slow
def test_workers_die_when_the_bench_is_killed(tmp_path):
    script, pids = waiting_script(tmp_path), tmp_path / "pids"
    pids.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "src")}
    with subprocess.Popen([sys.executable, script, pids], env=environment, stderr=subprocess.DEVNULL) as bench:
        assert within(30, lambda: list(pids.iterdir()))
        bench.send_signal(signal.SIGKILL)
    worker = int(next(pids.iterdir()).name)
    assert within(10, lambda: not alive(worker))


def within(seconds: float, what) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end and not what():
        time.sleep(0.05)
    return bool(what())


def alive(pid: int) -> bool:
    """Does a process run? One that ended and that nobody waited for does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
