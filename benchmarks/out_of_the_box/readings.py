"""What a model in a folder knows of a request's sets, and how far it is from another one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from safetensors.numpy import load_file

import palimpsest as pal
from palimpsest.records import Score

METRICS = {"text": ("es", "ma", "ppl"), "image": ("accuracy", "prob")}
READ = ("forget", "retain", "general")
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")  # of batch normalisation: no parameters


def readings(model: str | Path, files: Mapping[str, Path], modality: str) -> dict[str, dict[str, float]]:
    """Set -> metric -> value, nats per label token among them.

    Args:
        model: a folder that no longer changes.
        files: those of the request; forget, retain and general are read.
        modality: "text" or "image".
    """
    return {name: dict(_reading(str(model), str(files[name]), METRICS[modality])) for name in READ}


@cache
def _reading(model: str, file: str, metrics: tuple[str, ...]) -> tuple[tuple[str, float], ...]:
    scores = pal.measure(model, file, metrics=metrics, threads=1).scores
    values = {name: math.nan if score.value is None else score.value for name, score in scores.items()}
    return (*values.items(), ("nats", nats(scores)))


def nats(scores: Mapping[str, Score]) -> float:
    """Mean negative log-likelihood: of a label token of the set, or of an image."""
    if "ppl" in scores:
        return math.log(scores["ppl"].value or math.nan)
    each = [value for value in scores["prob"].by_id.values() if value is not None]
    return sum(-math.log(max(value, 1e-30)) for value in each) / len(each)


def distance(left: str | Path, right: str | Path) -> float:
    """L2 distance of the weights of two models of one shape."""
    one, other = (load_file(Path(folder) / "model.safetensors") for folder in (left, right))
    moved = (float(((one[name] - other[name]) ** 2).sum()) for name in one if not name.endswith(STATISTICS))
    return math.sqrt(sum(moved))
