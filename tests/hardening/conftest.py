"""The small clinic of the verbs, and a command that must be refused in one line that a terminal can show."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.verbs.conftest import clinic

from palimpsest.cli import main
from palimpsest.printed import LONGEST_LINE, is_visible

__all__ = ["clinic"]


@pytest.fixture
def refused(capsys) -> Callable[..., str]:
    """Run the command line; it must end with this code and one line of visible characters, which is returned."""

    def run(*arguments: Any, code: int = 2) -> str:
        found = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        line = err.removesuffix("\n").splitlines()[-1] if err else ""
        assert found == code, line
        assert out == ""
        assert line.startswith("palimpsest: ")
        assert "Traceback" not in err
        assert len(line) <= LONGEST_LINE
        assert all(map(is_visible, line)), line
        return line

    return run


@pytest.fixture
def folder_with(clinic, tmp_path) -> Callable[..., Path]:
    """A copy of the clinic's model of which one JSON file has other values, or all others."""
    count = iter(range(10_000))

    def make(file: str = "config.json", /, whole: str | None = None, **changes: Any) -> Path:
        folder = tmp_path / f"changed{next(count)}"
        shutil.copytree(clinic / "model", folder)
        place = folder / file
        if whole is None:
            values = json.loads(place.read_text()) if place.exists() else {}
            whole = json.dumps({**values, **changes})
        place.write_text(whole, encoding="utf-8")
        return folder

    return make
