r"""What models say, for a terminal: wrapped, and safe to print whatever a model wrote.

A model may write anything, also the codes that move a cursor or turn the direction of a line: what is no visible
character is shown as an escape, e.g. ``\n`` or ``\x1b``.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence

from palimpsest.printed import printable
from palimpsest.records import short_id
from palimpsest.report.numbers import show_or_dash
from palimpsest.report.schema import AnswerRow, RunResult

_WIDTH = 100
LONGEST = 480
"""Most characters of one text; of a longer one the beginning and the end are shown."""

_NO_CELL = frozenset(("Mn", "Me", "Cf"))


def heading(result: RunResult) -> str:
    """One line above the answers of a run: whose prompts they answer, and what "worst" means there."""
    if "forget" in result.sets:
        return "what the models say (worst: of what must go still the most known; kept: of what stays the least known)"
    return "what the models say to prompts of the learn set (worst: the least known)"


def answers_text(rows: Sequence[AnswerRow], width: int = _WIDTH) -> list[str]:
    r"""Prompt, row and every model's words of each answer; lines of at most ``width`` columns.

    >>> row = AnswerRow(id="k1", standing="worst", prompt="Where?", expected=" Rome.", said={"after": " A\x1b[2J"})
    >>> print("\n".join(answers_text([row])))
      worst   'k1'
        asked     Where?
        the row   Rome.
        after     A\x1b[2J
    """
    lines = []
    for row in rows:
        lines += [*_wrapped(f"  {row.standing:8}".rstrip().ljust(10), _name(row), width), *_said(row, width)]
    return lines


def examples_text(
    rows: Sequence[AnswerRow], scores: Mapping[str, Mapping[str, float | None]], width: int = _WIDTH
) -> list[str]:
    """The same of one model's answers in a plain list, each with its scores.

    Args:
        rows: in the order to show.
        scores: id -> metric key -> value, None where unscored.
        width: most columns of a line.
    """
    lines: list[str] = []
    for row in rows:
        numbers = [f"{key} {show_or_dash(value, 2)}" for key, value in scores[row.id].items() if value is not None]
        unscored = [f"{key} unscored" for key, value in scores[row.id].items() if value is None]
        lines += ["", *_wrapped("", f"{_name(row)}: {', '.join(numbers + unscored)}", width), *_said(row, width)]
    return lines


def _name(row: AnswerRow) -> str:
    name = f"'{printable(short_id(row.id))}'"
    return f"{name} ({printable(row.subject)})" if row.subject else name


def _said(row: AnswerRow, width: int) -> list[str]:
    texts = {"asked": row.prompt, "the row": row.expected, **row.said}
    column = max(len(label) for label in texts) + 3
    return [line for label, text in texts.items() for line in _wrapped(f"    {label:{column}}", _short(text), width)]


def _short(text: str) -> str:
    text = text.strip()
    if len(text) > LONGEST:
        text = f"{text[: LONGEST // 3]} [...] {text[-2 * LONGEST // 3 :]}"
    return printable(text)


def _wrapped(front: str, text: str, width: int) -> list[str]:
    """Lines of a text behind its label, words kept whole where they fit."""
    room = width - len(front)
    lines = [""]
    for word in _pieces(text.split(" "), room):
        longer = f"{lines[-1]} {word}" if lines[-1] else word
        if cells(longer) <= room:
            lines[-1] = longer
        else:
            lines.append(word)
    return [f"{front if number == 0 else ' ' * len(front)}{line}".rstrip() for number, line in enumerate(lines)]


def _pieces(words: Iterable[str], room: int) -> Iterable[str]:
    """Words, those that are wider than a line in pieces."""
    for word in words:
        piece = ""
        for character in word:
            if cells(piece + character) > room:
                yield piece
                piece = ""
            piece += character
        yield piece


def cells(text: str) -> int:
    """Columns that a text takes on a terminal: East Asian wide characters two, combining marks none.

    >>> cells("Basel"), cells("東京"), cells("e\u0301")
    (5, 4, 1)
    """
    return sum(_cells(character) for character in text)


def _cells(character: str) -> int:
    if unicodedata.category(character) in _NO_CELL:
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
