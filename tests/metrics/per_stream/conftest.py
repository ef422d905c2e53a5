"""Streams as rows of accuracies in points: after each request, of every task so far."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from palimpsest.metrics.per_stream import Course


@pytest.fixture(scope="session")
def course() -> Callable[[Sequence[Sequence[float]]], Course]:
    """Rows -> a stream whose tasks have one example each."""

    def build(rows: Sequence[Sequence[float]]) -> Course:
        return Course([{f"t{t}": {f"x{t}": value / 100} for t, value in enumerate(row)} for row in rows], [])

    return build


@pytest.fixture(scope="session")
def field(course) -> Course:
    """The rows of the docstrings."""
    return course([(90,), (80, 88), (70, 75, 92), (60, 78, 85, 95)])
