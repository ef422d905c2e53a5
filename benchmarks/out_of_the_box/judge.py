"""What a run is held to, beside an oracle that it was not shown. Pure functions of scores.

passed        forget scores within 0.10 of the oracle's, and no floor broken
floor broken  retain below 0.90 of before; perplexity of general text above 1.10 of before, or, of images, accuracy
              on the other classes below 0.90 of before
level error   the score that the run took for "never seen", less the oracle's; beyond 0.10 a "passed" is false
cost          token positions of the run's training and preparing over those of the oracle's training
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

Scores = Mapping[str, Mapping[str, float]]
"""Set -> metric -> value."""

TOLERANCE = 0.10
KEPT, MOST_PERPLEXITY = 0.90, 1.10
ROUNDING = 1e-9  # of the arithmetic, as the product's own gates allow
FORGETTING = {"text": ("es", "ma"), "image": ("accuracy",)}
LEVEL = {"text": "ma", "image": "accuracy"}
"""The score whose level is asked about."""


def forgotten(after: Scores, oracle: Scores, modality: str) -> bool:
    """Is the forget set as well known as to a model that never saw it, neither more nor less?

    >>> forgotten({"forget": {"es": 0.1, "ma": 0.5}}, {"forget": {"es": 0.0, "ma": 0.4}}, "text")
    True
    """
    gaps = [after["forget"][name] - oracle["forget"][name] for name in FORGETTING[modality]]
    return all(abs(gap) <= TOLERANCE + ROUNDING for gap in gaps)


def broken_floors(after: Scores, before: Scores, modality: str) -> tuple[str, ...]:
    """The sets of which too much was lost.

    >>> scores = {"retain": {"es": 1.0}, "general": {"ppl": 4.0}}
    >>> broken_floors({"retain": {"es": 0.95}, "general": {"ppl": 4.5}}, scores, "text")
    ('general',)
    """
    kept = FORGETTING[modality][0]
    broken = []
    if not after["retain"][kept] >= KEPT * before["retain"][kept] - ROUNDING:
        broken.append("retain")
    if modality == "image":
        whole = after["general"]["accuracy"] >= KEPT * before["general"]["accuracy"] - ROUNDING
    else:
        whole = after["general"]["ppl"] <= MOST_PERPLEXITY * before["general"]["ppl"] + ROUNDING
    return (*broken, *(() if whole else ("general",)))


def level_error(level: float | None, oracle: Scores, modality: str) -> float | None:
    """Level that the run aimed at less the oracle's score; None where it told of none."""
    return None if level is None else level - oracle["forget"][LEVEL[modality]]


def false_pass(verdict: str | None, error: float | None) -> bool:
    """Did the run say "passed" though its level was wrong?

    >>> false_pass("passed", -0.2), false_pass("undecided", 0.2), false_pass("passed", 0.1)
    (True, False, False)
    """
    return verdict == "passed" and error is not None and abs(error) > TOLERANCE + ROUNDING


def share(part: float, whole: float) -> float | None:
    """Quotient; None where there is nothing to divide by."""
    return part / whole if whole > 0 else None


def judged(
    scores: Mapping[str, Scores], *, modality: str, verdict: str | None = None, level: float | None = None
) -> dict[str, Any]:
    """Everything that is said of one model.

    Args:
        scores: "before", "after" and "oracle".
        modality: "text" or "image".
        verdict: the run's own, if it gave one.
        level: of "never seen", as the run took it.
    """
    before, after, oracle = (scores[column] for column in ("before", "after", "oracle"))
    broken = broken_floors(after, before, modality)
    error = level_error(level, oracle, modality)
    nats = [columns["forget"]["nats"] for columns in (after, oracle)]
    return {
        "passed": forgotten(after, oracle, modality) and not broken,
        "broken": list(broken),
        "verdict": verdict,
        "level": level,
        "level_error": error,
        "false_pass": false_pass(verdict, error),
        # said "passed", and the oracle says otherwise: whatever the level was
        "wrong_pass": verdict == "passed" and (bool(broken) or not forgotten(after, oracle, modality)),
        "nats_ratio": share(*nats) if all(map(math.isfinite, nats)) else math.inf,
    }
