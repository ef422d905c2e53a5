"""Every benchmark can at least be started: what it imports is there."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
FILES = sorted(file.stem for file in BENCHMARKS.glob("*.py"))
ROOMS = sorted(f"{file.parent.name}.{file.stem}" for file in BENCHMARKS.glob("*/*.py"))


@pytest.mark.parametrize("name", [*FILES, *ROOMS])
def test_it_is_imported(name):
    importlib.import_module(name)
