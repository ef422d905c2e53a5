"""Rows so long that they can be no row for a model: told before they are tokenised, which would take minutes."""

from __future__ import annotations

from palimpsest.errors import DataError
from palimpsest.records import Chat, Completion, Content, Labelled, Text

PER_TOKEN = 100
"""Characters of a token, at most, in nearly every vocabulary; also the longest word that WordPiece looks at."""
QUICK = 1_000_000
"""Characters that are tokenised in a second or so: their tokens can be counted, and the message says how many."""
_MOST = 5_000_000
"""Characters of a row for a model of any length, and of one that is to be cut; tokenising more takes minutes."""


def size_of(content: Content) -> int:
    """Characters of a row; 0 of what is not tokenised.

    >>> size_of(Completion("Where?", " Rome."))
    12
    """
    if isinstance(content, Text | Labelled):
        return len(content.text)
    if isinstance(content, Completion):
        return len(content.prompt) + len(content.completion)
    return sum(len(m.content) + len(m.role) for m in content.messages) if isinstance(content, Chat) else 0


def longest_text(max_length: int | None, *, truncate: bool) -> int:
    """Most characters of a row that is tokenised at all.

    Args:
        max_length: most tokens; None = any number.
        truncate: longer rows are cut, not refused.

    >>> longest_text(2048, truncate=False), longest_text(32768, truncate=False), longest_text(None, truncate=False)
    (1000000, 3276800, 5000000)
    """
    if max_length is None or truncate:
        return _MOST
    return min(_MOST, max(QUICK, PER_TOKEN * max_length))


def check_size(content: Content, limit: int) -> None:
    """Refuse a row of more characters than the limit.

    Raises:
        DataError: it is one.
    """
    size = size_of(content)
    if size > limit:
        raise DataError(f"{size} characters; accepted: at most {limit}; cut it into several rows")
