"""How the benchmark's own models are trained: always by fixed options, whatever the product would choose."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from palimpsest.engine.plan import SECTIONS

Plan = dict[str, Any]

SMOOTH = {"betas": [0.9, 0.98], "lr_scheduler_type": "cosine", "warmup_steps": 20, "num_train_epochs": 100_000}
LITTLE = {"metrics": ["es", "ma"]}


def fixed_rates() -> Plan:
    """What tells the product to take the rates as they are given, or as published."""
    return {"control": {"kind": "none"}} if "control" in SECTIONS else {}


def fixed(training: Mapping[str, Any], measuring: Mapping[str, Any], **sections: Any) -> Plan:
    """A plan in which every step is decided beforehand."""
    return {**fixed_rates(), "training": dict(training), "measuring": dict(measuring), **sections}


def teaching(rate: float, steps: int) -> Plan:
    """The recipe by which a model learns its rows and an oracle learns what remains of them."""
    training = {**SMOOTH, "learning_rate": rate, "max_steps": steps, "batch_size": 16, "side_batch_size": {"replay": 4}}
    return fixed(training, LITTLE)


def relearning(rate: float) -> Plan:
    """Five passes over half of what was forgotten."""
    training = {"learning_rate": rate, "betas": [0.9, 0.98], "batch_size": 4, "num_train_epochs": 5}
    return fixed(training, LITTLE)
