"""The files that the suite without Flower cannot import, and what Flower must not do."""

from __future__ import annotations

import importlib
import os
import pkgutil

import pytest
import tests.federated_flower.toys  # noqa: F401 (skips this file where Flower is missing)

from palimpsest.federated import flower

MODULES = sorted(module.name for module in pkgutil.iter_modules(flower.__path__))


@pytest.mark.parametrize("name", MODULES)
def test_every_file_over_flower_can_be_imported(name: str) -> None:
    assert importlib.import_module(f"{flower.__name__}.{name}").__doc__


def test_flower_reports_nothing_to_its_makers() -> None:
    from flwr.supercore import telemetry

    assert os.environ["FLWR_TELEMETRY_ENABLED"] == "0"
    assert telemetry.FLWR_TELEMETRY_ENABLED == "0", "it was imported before it was told"
    assert os.environ["FLWR_DISABLE_UPDATE_CHECK"] == "1"
