"""Two sentences of meaning for readers who do not know the field."""

from __future__ import annotations

from collections.abc import Mapping

from palimpsest.report.numbers import show
from palimpsest.report.schema import RunResult

ORIGINS: Mapping[str, str] = {
    "unknown": (
        "Oracle of unknown origin: no record says what it learned, so nothing shows that it never saw the forget set."
    ),
    "base": "The oracle is the base as it was given: it never saw the forget set, and never learned the retain set.",
}
"""What the first lines of a page say of the oracle; nothing of one whose record is there."""

BOUND = (
    "The bound of 0.10 on the forget set, a tenth of its tokens, is a convention of this tool, not a legal one; a plan "
    "may set another (gates in --plan)."
)


def where_to(result: RunResult) -> str:
    """Where a controlled run was to end: the level's source, its numbers and its error; empty at a fixed rate."""
    level = result.level
    if level is None:
        return ""
    words = f"The run found its own rate. Its level of never seen: {level.sentence}."
    nats, there = level.after.get("nats"), level.values.get("nats")
    if nats is not None and there:  # of a class that nobody predicts there are no nats
        words += f" It left the forget set at {show(nats, 2)} nats per scored position; the level has {show(there, 2)}."
    return f"{words} {level.doubt[:1].upper()}{level.doubt[1:]}." if level.doubt else words


def meaning(result: RunResult) -> str:
    """What a level of never seen is, in words, with its number; empty where there is none."""
    sources = {
        "oracle": ("oracle", "forget", "An oracle is a model trained without the forget set."),
        "level": ("level", "forget", "The level is an estimate for a model that never saw the forget set."),
        "holdout": ("after", "holdout", "The holdout holds comparable examples that the model never saw."),
    }
    if result.kind not in ("unlearn", "update"):
        return ""
    for column, name, words in sources.values():
        scores = result.scores.get(column, {}).get(name, {})  # type: ignore[call-overload]
        metric = next((m for m in ("ma", "accuracy") if m in scores and scores[m].value is not None), None)
        if metric is not None:
            value = f"{'MA' if metric == 'ma' else metric} {show(scores[metric].value, 2)}"
            return (
                f"{words} What it scores, {value}, can be guessed without "
                "having seen these examples: forgotten means as low as that, and lower is not better."
            )
    return ""
