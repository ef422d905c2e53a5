"""Flower is imported before the tests of this folder: its own imports warn of their age, and warnings are errors."""

from __future__ import annotations

import warnings
from contextlib import suppress

import palimpsest.federated.flower  # noqa: F401 (Flower's telemetry is off before it is imported)

with suppress(ModuleNotFoundError), warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import flwr.clientapp
    import flwr.server.workflow
    import flwr.serverapp
    import flwr.simulation  # noqa: F401
