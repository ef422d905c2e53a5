"""A part is two files: those of CONTRIBUTING.md are put into a copy of the package, and nothing else is touched."""

from __future__ import annotations

import shutil
import sys

import pytest
from tests.documents import ROOT, put, titled_files

from palimpsest.models import parts

OWN_TEST, BATTERY = "tests/models/parts/test_channel_gain.py", "tests/contract/test_parts.py"


def files_of_the_guide() -> dict[str, str]:
    return titled_files("Adding a part")


def test_the_guide_spells_out_two_files():
    assert list(files_of_the_guide()) == ["src/palimpsest/models/parts/channel_gain.py", OWN_TEST]


def test_a_folder_of_ones_own_needs_no_fork(tmp_path, monkeypatch):
    source, _ = files_of_the_guide().values()
    put(tmp_path, {"channel_gain.py": source})
    assert "channel_gain" not in parts.names()
    monkeypatch.setenv("PALIMPSEST_PARTS", str(tmp_path))
    assert "channel_gain" in parts.names()
    assert parts.part_options("channel_gain", {"at": "x", "width": 2}).width == 2
    del sys.modules["palimpsest.models.parts.channel_gain"]


@pytest.mark.slow
def test_in_a_checkout_two_files_are_enough(warm, tmp_path):
    """Its own test passes and the battery finds it, with nothing registered anywhere."""
    for name in ("src", "tests", "pyproject.toml"):
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, tmp_path / name)
    put(tmp_path, files_of_the_guide())
    done = warm.pytest(tmp_path, OWN_TEST, BATTERY, "-k", "channel_gain", "-rA", "-p", "no:xdist")
    assert done.returncode == 0, done.stdout[-6000:]
    assert done.stdout.count(f"PASSED {OWN_TEST}") == 1
    assert done.stdout.count(f"PASSED {BATTERY}") == 8
