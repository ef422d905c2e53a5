"""A measurement as JSON: what a run remembers, so that nothing is measured twice."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from palimpsest.records import Cost, Direction, Score

Measured = tuple[Mapping[str, Mapping[str, Score]], Cost]


def measured_json(measured: Measured) -> dict[str, Any]:
    """JSON values."""
    scores, cost = measured
    fields = Score.__slots__
    return {
        "scores": {n: {k: {f: _plain(getattr(s, f)) for f in fields} for k, s in m.items()} for n, m in scores.items()},
        "cost": {f: getattr(cost, f) for f in Cost.__slots__},
    }


def _plain(value: Any) -> Any:
    """Values by id as pairs: sealed JSON sorts its keys, and resampling goes by the order of the rows."""
    return list(value.items()) if isinstance(value, Mapping) else value


def measured_of(value: Mapping[str, Any]) -> Measured:
    """Inverse of ``measured_json``."""
    scores = {name: {key: _score(s) for key, s in metrics.items()} for name, metrics in value["scores"].items()}
    return scores, Cost(**value["cost"])


def _score(fields: Mapping[str, Any]) -> Score:
    return Score(**{**fields, "by_id": dict(fields["by_id"]), "direction": Direction(fields["direction"])})
