"""Kinds of part that only tests know, read from folders as a stranger's are."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.models.parts.kinds_for_tests import GAIN, METHOD, NUDGE


@pytest.fixture
def own_parts(tmp_path, monkeypatch) -> Iterator[Path]:
    """A folder with the kinds ``gain`` and ``nudge``, and the method ``nudged``; forgotten afterwards."""
    folder = tmp_path / "own"
    (folder / "methods").mkdir(parents=True)
    for name, source in {"gain": GAIN, "nudge": NUDGE, "methods/nudged": METHOD}.items():
        (folder / f"{name}.py").write_text(source)
    monkeypatch.setenv("PALIMPSEST_PARTS", str(folder))
    monkeypatch.setenv("PALIMPSEST_METHODS", str(folder / "methods"))
    yield folder
    for name in [n for n, m in sys.modules.items() if (getattr(m, "__file__", "") or "").startswith(str(folder))]:
        del sys.modules[name]
