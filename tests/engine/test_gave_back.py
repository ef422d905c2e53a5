"""A run that gave the weights back is not passed on what the model scored before it."""

from __future__ import annotations

from typing import Any

import pytest

from palimpsest.engine.plan import Plan
from palimpsest.engine.verdict import Evidence, reach_verdict
from palimpsest.models.families import family_that_takes
from palimpsest.records import Direction, Outcome, Score
from palimpsest.report.schema import Ending

KNOWN = {str(i): 1.0 for i in range(200)}
NEVER_SEEN = {i: 0.95 for i in KNOWN}  # within 0.10 of what the model knows: by this metric nothing is left to forget


def score(by_id: dict[str, float], metric: str) -> Score:
    value = sum(by_id.values()) / len(by_id)
    return Score(metric, value, value, value, len(by_id), 0, Direction.HIGHER, "share", 1, by_id)


def evidence(ending: Ending) -> Evidence:
    def column(by_id: dict[str, float]) -> dict[str, Any]:
        return {name: {"accuracy": score(by_id, "accuracy")} for name in ("forget", "retain")}

    scores = {"before": column(KNOWN), "after": column(KNOWN), "level": {"forget": column(NEVER_SEEN)["forget"]}}
    plan = Plan(kind="unlearn", method="salun", model="m", files={"forget": "f.npz", "retain": "r.npz"})
    return Evidence(plan, scores, {"forget": 200, "retain": 200}, ending, family_that_takes("image"))


@pytest.mark.parametrize(
    ("ending", "outcome"),
    [
        (Ending(steps=40), Outcome.PASSED),
        (Ending(steps=40, short="no round held the floors"), Outcome.PASSED),  # another model, which holds every gate
        (Ending(steps=40, short="no round held the floors", unchanged=True), Outcome.UNDECIDED),
    ],
)
def test_the_model_of_before_passes_no_request(ending, outcome):
    verdict, _ = reach_verdict(evidence(ending))
    assert verdict is not None
    assert verdict.outcome is outcome
    assert ("this run changed nothing (no round held the floors)" in verdict.plain) is ending.unchanged


def test_the_record_names_it_only_where_it_is_so():
    assert "unchanged" not in Ending(steps=1).model_dump()
    assert Ending.model_validate(Ending(unchanged=True).model_dump()).unchanged
