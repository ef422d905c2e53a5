"""Sentences of meaning, with a run's own numbers, for readers who do not know the field."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from palimpsest.report.glossary import written_name
from palimpsest.report.nouns import of_images
from palimpsest.report.numbers import show_or_dash
from palimpsest.report.schema import RunResult, ScoreRow

ORIGINS: Mapping[str, str] = {
    "unknown": (
        "Oracle of unknown origin: no record says what it learned, so nothing shows that it never saw the forget set."
    ),
    "base": "The oracle is the base as it was given: it never saw the forget set, and never learned the retain set.",
}
"""What the first lines of a page say of the oracle; nothing of one whose record is there."""

BOUND = (
    "The bounds, 0.10 on the forget set unless another was given, are conventions of this tool, not legal ones; --gate "
    "may set another (gates in --plan)."
)
UNLEARNING = ("unlearn", "update")


class NeverSeen(NamedTuple):
    """What a model scores that never saw the forget set: one metric's value, and where it comes from."""

    metric: str
    value: float
    words: str


def never_seen(result: RunResult) -> NeverSeen | None:
    """The best source there is: the oracle, else the estimated level, else the holdout under the model after."""
    if result.kind not in UNLEARNING:
        return None
    things = "images" if of_images(result) else "rows"
    for column, name in (("oracle", "forget"), ("level", "forget"), ("after", "holdout")):
        scores = result.scores.get(column, {}).get(name, {})  # type: ignore[call-overload]
        for metric in ("ma", "accuracy", "es"):
            if metric in scores and scores[metric].value is not None:
                return NeverSeen(metric, scores[metric].value, _source(result, column, things))
    return None


def _source(result: RunResult, column: str, things: str) -> str:
    never = f"is what a model scores that never saw these {things}"
    if column == "oracle":
        if result.oracle_origin == "unknown":
            return f"is what the oracle scores, and nothing shows that it never saw these {things}"
        base = "the base before it learned anything" if result.oracle_origin == "base" else "retrained without them"
        return f"{never} (the oracle, {base})"
    if column == "after":
        return f"is what this model scores on comparable {things} that it never saw (the holdout)"
    source = result.level.source if result.level is not None else ""
    estimate = {
        "shadow": "an estimate, from an n-gram model of what stays",
        "holdout": "from images of the same classes that the model never saw",
        "classes": "no image of their classes stays, so that no class of theirs would be named",
    }.get(source, "an estimate")
    return f"is what a model should score that never saw these {things} ({estimate})"


def meaning(result: RunResult) -> str:
    """What a model scores that never saw the forget set, beside this one before and after; empty without a level."""
    level = never_seen(result)
    if level is None:
        return ""
    name = written_name(level.metric)
    said = f"{name[:1].upper()}{name[1:]} {show_or_dash(level.value)} {level.words}."
    before, after = (_value(result, column, level.metric) for column in ("before", "after"))
    if after is not None:
        was = "" if before is None else f", before it was {show_or_dash(before)}"
        said += f" After the run it is {show_or_dash(after)}{was}."
    return f"{said} {_aim(result, level)}"


def _aim(result: RunResult, level: NeverSeen) -> str:
    if of_images(result):
        if level.value <= 0.05:
            return "Forgotten means as low as that."
        return (
            "Forgotten means near that level, not near 0: who never saw these images still recognises many of them, "
            "and a model that names none of them can be told from one that never saw them."
        )
    return (
        "Forgotten means as low as that, and lower would not be better: so much of these rows can be guessed by who "
        "never saw them."
    )


def _value(result: RunResult, column: str, metric: str) -> float | None:
    score: ScoreRow | None = result.scores.get(column, {}).get("forget", {}).get(metric)  # type: ignore[call-overload]
    return None if score is None else score.value


def where_to(result: RunResult) -> str:
    """Where a controlled run was to end: the level's source, its numbers and its error; empty at a fixed rate."""
    level = result.level
    if level is None:
        return ""
    words = f"The run found its own rate. Its level of never seen: {level.sentence}."
    nats, there = level.after.get("nats"), level.values.get("nats")
    if level.beyond:
        words += f" {level.beyond}"
    elif nats is not None and there:  # of a class that nobody predicts there are no nats
        left, level_has = show_or_dash(nats), show_or_dash(there)
        words += f" It left the forget set at {left} nats per scored position; the level has {level_has}."
    return f"{words} {level.doubt[:1].upper()}{level.doubt[1:]}." if level.doubt else words
