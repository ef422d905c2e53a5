"""What the models say, as cards of the page: one per example that is shown."""

from __future__ import annotations

from typing import NamedTuple

from palimpsest.printed import printable
from palimpsest.records import short_id
from palimpsest.report.glossary import written_name
from palimpsest.report.nouns import of_images
from palimpsest.report.numbers import show_or_dash
from palimpsest.report.schema import COLUMNS, AnswerRow, RunResult
from palimpsest.report.view import focus

EMPTY = "(nothing)"
_KEPT = "\n\t"
"""What is no visible character and is shown all the same; the others could hide or turn a text."""
LONG, MANY_LINES = 300, 6
"""Longer words get a box of their own height to scroll in; in print all of them stand there."""

FORGETTING = {
    "worst": ("Worst example", "still known best after the run"),
    "median": ("Median example", "in the middle"),
    "best": ("Best example", "known least after the run"),
    "kept": ("Of what stays, the worst", "known least after the run"),
}
LEARNING = {
    "worst": ("Worst example", "known least after the run"),
    "median": ("Median example", "in the middle"),
    "best": ("Best example", "known best after the run"),
}
SPEAKERS = {"before": "before", "after": "after", "oracle": "oracle"}


class Spoken(NamedTuple):
    """One line of a card."""

    speaker: str
    kind: str
    words: str
    long: bool
    remark: str


Title = tuple[str, str]


class AnswerCard(NamedTuple):
    """One example: what was asked, what it holds, what the models say."""

    title: Title
    id: str
    subject: str
    scores: str
    lines: tuple[Spoken, ...]


def cards(result: RunResult) -> tuple[AnswerCard, ...]:
    """The examples whose answers were recorded, in their order."""
    return tuple(_card(result, answer) for answer in result.answers)


def _card(result: RunResult, answer: AnswerRow) -> AnswerCard:
    images = of_images(result)
    titles = FORGETTING if "forget" in result.sets else LEARNING
    columns = [c for c in COLUMNS if c in answer.said] + [c for c in answer.said if c not in COLUMNS]
    lines = [
        _spoken("prompt", "asked", answer.prompt),
        _spoken("its class" if images else "the row holds", "holds", answer.expected),
        *(_spoken(SPEAKERS.get(c, c), c, answer.said[c], remark=_remark(answer, c, images=images)) for c in columns),
    ]
    title = titles.get(answer.standing, (answer.standing or "Example", ""))
    scores = _scores(result, answer)
    return AnswerCard(title, short_id(answer.id), answer.subject or "", scores, tuple(lines))


def _spoken(speaker: str, kind: str, words: str, *, remark: str = "") -> Spoken:
    long = len(words) > LONG or words.count("\n") >= MANY_LINES
    # The one blank that parts an answer from its prompt is no part of what is said.
    shown = words.removeprefix(" ") if words.strip() else EMPTY
    return Spoken(speaker, kind, "".join(c if c in _KEPT else printable(c) for c in shown), long, remark)


def _remark(answer: AnswerRow, column: str, *, images: bool) -> str:
    """Is an answer exactly what the example holds? Of images the class stands before its probability."""
    said, expected = answer.said[column].strip(), answer.expected.strip()
    if images:
        return "right" if said.rpartition(" (")[0] == expected or said == expected else ""
    return "word for word" if said and said == expected else ""


def _scores(result: RunResult, answer: AnswerRow) -> str:
    """The example's own value of the metric that says most, in every column."""
    name = "retain" if answer.standing == "kept" else focus(result)
    for metric in ("ma", "es", "prob", "accuracy"):
        found = [
            (column, score.by_id[answer.id])
            for column, sets in result.scores.items()
            if (score := sets.get(name or "", {}).get(metric)) is not None and answer.id in score.by_id
        ]
        if found:
            values = ", ".join(f"{show_or_dash(value)} {_in_words(column)}" for column, value in found)
            return f"{written_name(metric)} {values}"
    return ""


def _in_words(column: str) -> str:
    return "at the level of never seen" if column == "level" else column
