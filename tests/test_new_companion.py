"""A companion is two files: the ones of CONTRIBUTING.md are taken out of it and used, and nothing else is touched."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tests.documents import ROOT, put, titled_files
from tests.warm import WarmPython

FILES = titled_files("Adding a companion")


def test_the_guide_spells_out_two_files() -> None:
    assert list(FILES) == ["src/palimpsest/companions/visits.py", "tests/companions/test_visits.py"]


@pytest.mark.slow
def test_two_files_are_enough(warm: WarmPython, tmp_path: Path) -> None:
    """Its own test passes, the battery finds it, and the command lists it."""
    for name in ("src", "tests", "pyproject.toml"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    put(tmp_path, FILES)

    own, battery = "tests/companions/test_visits.py", "tests/contract/test_companions.py"
    done = warm.pytest(tmp_path, own, battery, "-k", "visits", "-rA", "-p", "no:xdist")
    assert done.returncode == 0, done.stdout[-6000:]
    assert done.stdout.count(f"PASSED {own}") == 2
    assert done.stdout.count(f"PASSED {battery}") >= 5
    (tmp_path / "version" / "companion" / "visits").mkdir(parents=True)
    listed = warm.run(["-m", "palimpsest", "companions", "version"], tmp_path, PYTHONPATH=str(tmp_path / "src"))
    assert (listed.returncode, "visits" in listed.stdout) == (0, True), listed.stdout
