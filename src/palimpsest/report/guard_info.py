"""What stands in a record of a version that is guarded, and the first line that a reader sees of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pydantic import Field

from palimpsest.in_words import so_many
from palimpsest.report.numbers import show_or_dash
from palimpsest.report.row import ReportRow

if TYPE_CHECKING:
    from palimpsest.report.schema import RunResult


_ABOUT = ("forget", "paraphrase")  # sets on which a guard is to fire


class FiredRow(ReportRow):
    """How often the guards fired on the rows of a set."""

    rows: int = Field(ge=0)
    """Rows that were asked."""
    anywhere: int = Field(ge=0)
    """Of these, rows in which a guard fired at some token."""
    in_time: int = Field(ge=0)
    """Of these, rows in which it had fired when the answer began; of a text when half of it was read."""


class GuardInfo(ReportRow):
    """The parts of a version that keep what the weights know from being said."""

    parts: tuple[str, ...]
    """Names of their folders, oldest first."""
    unchanged: bool
    """Did this run leave every weight as it was?"""
    keeps: tuple[str, ...] = ()
    """What they keep of the forgotten rows, a sentence for each kind."""
    fired: dict[str, FiredRow] = Field(default_factory=dict)
    """Set -> how often they fired; empty where they act on every text."""


def first_line(info: GuardInfo, scores: Mapping[str, Mapping[str, Mapping[str, float | None]]]) -> str:
    """What a report says before anything else.

    Args:
        info: of the guards.
        scores: column -> set -> metric -> value.

    >>> first_line(GuardInfo(parts=("0000-x",), unchanged=True), {"after": {}, "without": {}})
    'The weights are unchanged: removing the part 0000-x brings back what it hides.'
    """
    named = f"the part {info.parts[0]}" if len(info.parts) == 1 else f"the parts {', '.join(info.parts)}"
    begin = "The weights are unchanged" if info.unchanged else "Part of what is forgotten is only hidden"
    after, without = (scores.get(column, {}).get("forget", {}) for column in ("after", "without"))
    both = [f"{m} {show_or_dash(without[m])} without, {show_or_dash(after[m])} with" for m in after if m in without]
    numbers = f" (forget {'; '.join(both)})" if both else ""
    hides = "it hides" if len(info.parts) == 1 else "they hide"
    return f"{begin}: removing {named} brings back what {hides}{numbers}."


def guarded_lines(result: RunResult) -> tuple[str, ...]:
    """What else is to say of the guards: whom they refuse wrongly, whom they miss, what they keep."""
    if result.guard is None:
        return ()
    kept = (f"Kept of the forgotten rows: {words}." for words in result.guard.keeps)
    return (*_counted(result.guard.fired), *kept)


def _counted(fired: Mapping[str, FiredRow]) -> list[str]:
    """Misses and false alarms; or that there is nothing to count."""
    if not fired:
        return ["It acts on every text, so there are no false alarms to count; the scores show what it costs."]
    missed = [_share(name, row.rows - row.in_time, row) for name, row in fired.items() if name in _ABOUT]
    false = [_share(name, row.anywhere, row) for name, row in fired.items() if name not in _ABOUT]
    lines = {"Missed when the answer begins": missed, "False alarms, at any token": false}
    return [f"{words}: {', '.join(counts)}." for words, counts in lines.items() if counts]


def _share(name: str, number: int, row: FiredRow) -> str:
    return f"{number} of {so_many(row.rows, f'{name} row')}"
