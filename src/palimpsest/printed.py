r"""Text of others on a terminal or a page: nothing in it may move a cursor or turn the direction of a line.

What is no visible character is shown as an escape, e.g. ``\n`` or ``\x1b``.
"""

from __future__ import annotations

import re
import unicodedata

# Format characters that words of some scripts and joined pictures need; the others can hide or reorder a text.
_JOINERS = frozenset("\u200c\u200d")
_UNSEEN = frozenset(("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"))
_PLAIN = re.compile(r"[ -~]*")  # most texts: nothing to look at one by one
LONGEST_LINE = 2000


def printable(text: str) -> str:
    r"""A text on one line, everything that is no visible character escaped.

    >>> print(printable("one\ntwo\x1b[2J\u202e"))
    one\ntwo\x1b[2J\u202e
    """
    if _PLAIN.fullmatch(text):
        return text
    return "".join(character if is_visible(character) else _escaped(character) for character in text)


def is_visible(character: str) -> bool:
    """Is it a character that shows, or that joins others into one that does?"""
    return character in _JOINERS or unicodedata.category(character) not in _UNSEEN


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()


def in_json(text: str) -> str:
    r"""JSON as it is printed: what is no visible character in one of its strings is escaped as JSON does it.

    >>> print(in_json('{"a": "\u202e\u009b"}'))
    {"a": "\u202e\u009b"}
    """
    if _PLAIN.fullmatch(text.replace("\n", "")):
        return text
    return "".join(c if c == "\n" or is_visible(c) else json_escape(c) for c in text)


def json_escape(character: str) -> str:
    r"""A character as JSON writes it in ASCII: beyond 16 bits as two halves.

    >>> json_escape("é"), json_escape("\U000e0001")
    ('\\u00e9', '\\udb40\\udc01')
    """
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{int.from_bytes(units[i : i + 2]):04x}" for i in range(0, len(units), 2))


def as_line(text: str, longest: int = LONGEST_LINE) -> str:
    r"""A message as one line of bounded length: blanks and line breaks become one blank each, the middle may go.

    >>> as_line("what\n  came \x1b[2J")
    'what came \\x1b[2J'
    >>> as_line("x" * 30, longest=20)
    'xxxxxxxxxxxx ... xxx'
    """
    line = printable(" ".join(text[: 4 * longest].split()))
    if len(text) > 4 * longest:  # what is too long to be looked at has an end all the same
        line += " " + printable(" ".join(text[-longest:].split()))
    if len(line) <= longest:
        return line
    behind = longest // 5 - 1
    return f"{line[: longest - behind - 5]} ... {line[-behind:]}"


def short(value: object, longest: int = 80) -> str:
    r"""A value in a message: as Python writes it, cut where it is long.

    >>> print(short("x" * 100, longest=5), short(7))
    'xxxx… 7
    """
    text = repr(value)
    return text if len(text) <= longest else f"{text[:longest]}…"


def fitted(text: str, longest: int, end: str = "…") -> str:
    """A text for a place of so many characters; a longer one is cut, and ends in what says so.

    >>> fitted("retain", 6), fitted("retained", 6), fitted("retained", 6, "..")
    ('retain', 'retai…', 'reta..')
    """
    return text if len(text) <= longest else text[: longest - len(end)] + end
