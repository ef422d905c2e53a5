"""Workers do not run the script of the user again, whether it has ``if __name__ == "__main__"`` or not."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import os
from palimpsest.engine.worker_processes import worker_processes
print("begun", flush=True)
with worker_processes(2, os.getpid, died="died") as pool:
    print(pool.submit(os.getppid).result() == os.getpid())
"""


def test_a_script_is_run_once(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.split(), done.stderr) == (0, ["begun", "True"], "")
