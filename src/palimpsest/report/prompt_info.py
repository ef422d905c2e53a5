"""What stands in a record of a version with prompts: which of them the rows choose, task by task."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from palimpsest.in_words import so_many
from palimpsest.report.numbers import show_or_dash
from palimpsest.report.row import ReportRow

if TYPE_CHECKING:
    from palimpsest.report.schema import RunResult

_MOST_SHOWN = 10


class PromptRow(ReportRow):
    """One part of prompts, and the rows that were learned with it: of methods with a part for each task, one task."""

    part: int = Field(ge=0)
    """Its number, as ``palimpsest parts`` takes it."""
    kind: str
    """Of part."""
    of_this_run: bool
    """Was it learned, or gone on with, in this run? Else in an earlier one, whose rows are counted."""
    rows: tuple[int, ...]
    """By how many rows of the learn set each of its prompts was chosen in the end; of soft weights the largest."""
    entropy: float = Field(ge=0)
    """Of the shares of its prompts, nats: 0 where one is always chosen."""
    asked: int = Field(default=0, ge=0)
    """Rows of the learn set, which chose among the prompts of all tasks; 0 for a part of an earlier run."""

    @property
    def chosen(self) -> int:
        """Prompts that a row chose."""
        return sum(count > 0 for count in self.rows)


PROMPT_HEAD = ("part", "kind", "learned in", "prompts chosen", "entropy, nats", "choices", "rows of each, most first")


def prompt_table(result: RunResult) -> tuple[tuple[str, ...], ...]:
    """A line for each part, written out."""
    return tuple(map(_cells, result.prompts))


def _cells(row: PromptRow) -> tuple[str, ...]:
    """As many as ``PROMPT_HEAD`` names."""
    most = sorted(((count, -number) for number, count in enumerate(row.rows) if count), reverse=True)
    each = ", ".join(f"{-number}: {count}" for count, number in most[:_MOST_SHOWN])
    more = f" and {so_many(len(most) - _MOST_SHOWN, 'prompt')} more" if len(most) > _MOST_SHOWN else ""
    when = "this run" if row.of_this_run else "an earlier run"
    choices = f"{sum(row.rows)} by {so_many(row.asked, 'row')}" if row.asked else str(sum(row.rows))
    number = f"{row.chosen} of {len(row.rows)}"
    return (str(row.part), row.kind, when, number, show_or_dash(row.entropy), choices, (each or "none") + more)


def prompts_text(result: RunResult) -> list[str]:
    """The same for a terminal, a line for each part."""
    return [
        f"prompts of part {part} ({kind}, {when}): {number} chosen, entropy {entropy} nats, {choices}; {each}"
        for part, kind, when, number, entropy, choices, each in prompt_table(result)
    ]
