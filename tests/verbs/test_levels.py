"""What no gate looks at and a reader must know: words less likely than a model would find them that never saw them."""

from __future__ import annotations

import pytest

from palimpsest.engine.levels import beyond
from palimpsest.report.schema import LevelInfo


def level(after: float, never: float) -> LevelInfo:
    return LevelInfo(source="shadow", sentence="", values={"ma": 0.4, "nats": never}, after={"ma": 0.4, "nats": after})


@pytest.mark.parametrize(
    ("after", "never", "said"), [(13.5, 3.87, True), (4.5, 3.87, False), (1.4, 0.5, False), (1.6, 0.5, True)]
)
def test_far_beyond_the_level_is_said_with_both_numbers(after: float, never: float, said: bool) -> None:
    words = beyond(level(after, never))
    assert bool(words) == said
    if said:
        assert "nats per token" in words
        assert f"{after:.1f}" in words


def test_without_a_level_in_nats_nothing_is_said() -> None:
    assert beyond(LevelInfo(source="classes", sentence="", values={"accuracy": 0.0}, after={"ma": 0.0})) == ""
