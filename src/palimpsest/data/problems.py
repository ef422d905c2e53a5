"""What is wrong with rows or files, gathered: one message says the first problem, and how many more there are."""

from __future__ import annotations

from collections.abc import Container, Iterator
from contextlib import contextmanager

from palimpsest.errors import DataError


class Problems:
    """Found one by one, and refused together."""

    def __init__(self) -> None:
        self.found: list[str] = []

    @contextmanager
    def of(self, name: str) -> Iterator[None]:
        """A block about one row or file: what it refuses is kept, and all that is behind it in the block left out."""
        try:
            yield
        except DataError as problem:
            self.found.append(f"{name}: {problem}")

    def refuse(self, what: str = "examples") -> None:
        """Refuse all of it, if there is any.

        Args:
            what: there are more of, in words.

        Raises:
            DataError: the first problem; how many more.
        """
        if self.found:
            more = f" (and {len(self.found) - 1} more {what})" if len(self.found) > 1 else ""
            raise DataError(f"{self.found[0]}{more}")


def refuse_twice(example_id: str, seen: Container[str]) -> None:
    """Refuse an id that was there before.

    Raises:
        DataError: it was.
    """
    if example_id in seen:
        raise DataError("this id occurs twice; accepted: ids that occur once")
