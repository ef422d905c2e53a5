"""Files get the permissions that the process gives to new files, whoever wrote them first."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from palimpsest.durable import put, with_usual_modes

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no such modes")


@pytest.fixture(params=[0o022, 0o077, 0o002], ids=oct)
def usual(request) -> Iterator[int]:
    """The mode of a new file, under three umasks."""
    before = os.umask(request.param)
    yield 0o666 & ~request.param
    os.umask(before)


def private(path: Path) -> Path:
    path.write_text("x")
    path.chmod(0o600)
    return path


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_file_that_is_put_in_place_may_be_read_like_any_other(tmp_path, usual):
    put(private(tmp_path / "x.tmp"), tmp_path / "x")
    assert mode(tmp_path / "x") == usual


def test_all_files_of_a_folder(tmp_path, usual):
    (tmp_path / "deep").mkdir()
    files = [private(tmp_path / "a"), private(tmp_path / "deep" / "b")]
    with_usual_modes(tmp_path)
    assert [mode(path) for path in files] == [usual, usual]
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "b", "deep"]


def test_an_empty_folder_is_none_of_its_business(tmp_path):
    with_usual_modes(tmp_path)
    assert list(tmp_path.iterdir()) == []
