"""What a command started ends when the command is killed, with all that it started in turn."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import psutil
import pytest
import tests.federated_flower.toys  # noqa: F401 (skips this file where Flower is missing)

from palimpsest.federated.flower.ending import end_families

SLEEPS = "import time; time.sleep(600)"
STARTS = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {SLEEPS!r}], start_new_session=True).wait()"
COMMAND = f"""
import subprocess, sys, time
from palimpsest.federated.flower.ending import ended_with_us
child = subprocess.Popen([sys.executable, "-c", {STARTS!r}])
with ended_with_us([child.pid]):
    print(child.pid, flush=True)
    time.sleep(600)
"""


def started() -> tuple[subprocess.Popen[str], psutil.Process, psutil.Process]:
    """A command, what it started, and what that started in a session of its own."""
    command = subprocess.Popen([sys.executable, "-c", COMMAND], stdout=subprocess.PIPE, text=True, env=os.environ)
    assert command.stdout is not None
    child = psutil.Process(int(command.stdout.readline()))
    while not child.children():
        assert child.is_running()
    return command, child, child.children()[0]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_stays_behind_a_command_that_was_killed(how: signal.Signals) -> None:
    command, *behind = started()
    command.send_signal(how)
    command.communicate()
    assert not psutil.wait_procs(behind, timeout=60)[1]


def test_families_end_and_what_is_gone_already_is_passed_over() -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    child = subprocess.Popen([sys.executable, "-c", STARTS])
    while not psutil.Process(child.pid).children():
        assert child.poll() is None
    (behind,) = psutil.Process(child.pid).children()
    end_families([gone.pid, child.pid])
    child.wait(timeout=60)
    assert not psutil.wait_procs([behind], timeout=60)[1]
