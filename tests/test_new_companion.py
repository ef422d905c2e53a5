"""A companion is two files: the ones of CONTRIBUTING.md are taken out of it and used, and nothing else is touched."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.documents import ROOT, put, titled_files

FILES = titled_files("Adding a companion")


def test_the_guide_spells_out_two_files() -> None:
    assert list(FILES) == ["src/palimpsest/companions/visits.py", "tests/companions/test_visits.py"]


@pytest.mark.slow
def test_two_files_are_enough(tmp_path: Path) -> None:
    """Its own test passes, the battery finds it, and the command lists it."""
    for name in ("src", "tests", "pyproject.toml"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    put(tmp_path, FILES)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "src"), "PYTHONDONTWRITEBYTECODE": "1"}

    def python(*arguments: str) -> str:
        how = {"cwd": tmp_path, "env": environment, "capture_output": True, "text": True}
        done = subprocess.run([sys.executable, *arguments], check=False, **how)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return str(done.stdout)

    own, battery = "tests/companions/test_visits.py", "tests/contract/test_companions.py"
    shown = python("-m", "pytest", own, battery, "-k", "visits", "-rA", "-p", "no:xdist")
    assert shown.count(f"PASSED {own}") == 2
    assert shown.count(f"PASSED {battery}") >= 5
    (tmp_path / "version" / "companion" / "visits").mkdir(parents=True)
    assert "visits" in python("-m", "palimpsest", "companions", str(tmp_path / "version"))
