"""The worst example of a set: what its mean hides."""

from __future__ import annotations

from typing import NamedTuple

from palimpsest.data.sets.roles import role_of
from palimpsest.records import Direction
from palimpsest.report.schema import RunResult

RIGHT_OR_WRONG = "accuracy"


class Worst(NamedTuple):
    """The example that did worst after the run, and what it scored."""

    id: str
    value: float


def worst(result: RunResult, name: str, metric: str) -> Worst | None:
    """Of the forget set the example still known best, of what is to stay the one known least.

    Args:
        result: the run.
        name: of the set.
        metric: key.

    Returns:
        The first of those that tie; None of other sets, after a mere measurement, below two examples, and of a metric
        that only says right or wrong.
    """
    score = result.scores.get("after", {}).get(name, {}).get(metric)
    if score is None or result.kind == "measure" or not (name == "forget" or role_of(name).stays):
        return None
    values = [(value, key) for key, value in score.by_id.items() if value is not None]
    if len(values) < 2 or metric == RIGHT_OR_WRONG:
        return None
    wants_high = (name == "forget") == (score.direction is Direction.HIGHER)
    value, key = (max if wants_high else min)(values, key=lambda pair: pair[0])
    return Worst(key, value)
