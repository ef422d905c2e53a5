"""The order in which a run goes over its sets: packed by owner, or by how sure the model is of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from palimpsest import metrics
from palimpsest.engine.plan import Plan
from palimpsest.errors import PlanError
from palimpsest.loop.arranged import Arranged
from palimpsest.metrics.evaluate import evaluate_in_run
from palimpsest.models.load import Loaded


def arranged_sets(
    plan: Plan, loaded: Loaded, sets: Mapping[str, Any], subjects: Mapping[str, str]
) -> dict[str, Arranged]:
    """Set -> its order, of those that have one; a function of the model that the run starts from.

    Args:
        plan: of the run.
        loaded: the model before it.
        sets: that the method draws from; the first one is the anchor.
        subjects: id -> subject, of all rows that have one.

    Raises:
        PlanError: batches of owners are asked for, and nobody owns a row.
    """
    owner = _owners(sets, subjects) if plan.training.pack_by is not None else {}
    found = {name: Arranged(owner) for name in [*sets][:1] if owner}
    if plan.training.order != "shuffled" and "forget" in sets:
        packed = found.get("forget", Arranged())
        found["forget"] = replace(packed, rank=_uncertainty(loaded, sets["forget"]))
    return found


def _owners(sets: Mapping[str, Any], subjects: Mapping[str, str]) -> Mapping[str, str]:
    """Of the rows of the first set."""
    anchor = next(iter(sets), "")
    if sets and not any(i in subjects for i in sets[anchor].ids):
        raise PlanError(f"training.pack_by = subject: no row of the {anchor} set has a subject; leave it out")
    return subjects


def _uncertainty(loaded: Loaded, forget: Any) -> dict[str, float]:
    """Mean entropy of what the model says to each row, nats; what has none comes last."""
    metric = metrics.build("entropy", {})
    found = evaluate_in_run(loaded.model, forget, [metric], eos_ids=loaded.eos_ids)
    by_id = found.scores[metric.key].by_id
    known = {i: value for i, value in by_id.items() if value is not None}
    return {i: known.get(i, math.inf) for i in forget.ids}
