"""A run in processes of its own, killed by SIGKILL at random moments and gone on with by the same call."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path


def killed(code: str, output: Path, times: int, grown: tuple[int, int]) -> int:
    """Run code until its output is there.

    Args:
        code: in Python, of a run that asks an endpoint.
        output: folder that it makes.
        times: kills.
        grown: bytes, from and below, by which the ledger of queries has grown when a process is killed.

    Returns:
        How often it was killed.

    Raises:
        RuntimeError: a process failed by itself.
    """
    done, drawn = 0, random.Random(0)
    ledger = output.with_name(f"{output.name}.partial") / "queries.jsonl"
    while not output.exists():
        child = subprocess.Popen([sys.executable, "-c", code], env=dict(os.environ), start_new_session=True)
        size = (ledger.stat().st_size if ledger.exists() else 0) + drawn.randrange(*grown)
        while child.poll() is None and done < times:
            if ledger.exists() and ledger.stat().st_size > size:
                child.send_signal(signal.SIGKILL)
                done += 1
                break
            time.sleep(0.002)
        if child.wait() not in (0, -signal.SIGKILL):
            raise RuntimeError(f"the run ended with {child.returncode}")
    return done
