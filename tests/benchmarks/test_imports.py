"""Every benchmark can at least be started: what it imports is there."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
FILES = sorted(file.stem for file in BENCHMARKS.glob("*.py"))
ROOMS = sorted(f"{file.parent.name}.{file.stem}" for file in BENCHMARKS.glob("*/*.py"))

FLOWERS = {"federated_bench.through_flower"}


@pytest.mark.parametrize("name", [*FILES, *ROOMS])
def test_it_is_imported(name):
    if name in FLOWERS and importlib.util.find_spec("flwr") is None:
        pytest.skip("Flower is not installed here: `make test-federated` has it")
    importlib.import_module(name)
