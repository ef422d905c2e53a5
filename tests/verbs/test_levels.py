"""What no gate looks at and a reader must know: words less likely than a model would find them that never saw them."""

from __future__ import annotations

import pytest

from palimpsest.control.level import Level
from palimpsest.control.readings import Reading, RowReading
from palimpsest.engine.levels import beyond, level_scores
from palimpsest.metrics import build
from palimpsest.metrics.metric import Statistics
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


def test_a_class_is_no_word_that_could_be_garbled() -> None:
    """A class that went has no probability left, which is what was asked for."""
    gone = {"accuracy": 0.0, "nats": 7.82}
    assert beyond(LevelInfo(source="classes", sentence="", values={"accuracy": 0.0, "nats": 0.0}, after=gone)) == ""


def test_without_a_level_in_nats_nothing_is_said() -> None:
    assert beyond(LevelInfo(source="classes", sentence="", values={"accuracy": 0.0}, after={"ma": 0.0})) == ""


def test_the_level_scores_the_rows_that_the_model_was_scored_on():
    """A row that is nothing but its closing token has no ES, so it is not in the level's either; its MA is."""
    rows = {"a": RowReading(3.0, 3, 0.5, 0.25), "closing alone": RowReading(1.0, 1, 1.0, 1.0)}
    es = build("es", {}).compute({"a": Statistics(3.0, 3.0), "closing alone": None})
    ma = build("ma", {}).compute({"a": Statistics(3.0, 3.0), "closing alone": Statistics(1.0, 1.0)})
    found = level_scores(Level("oracle", Reading(rows)), {"es": es, "ma": ma})["forget"]
    assert dict(found["es"].by_id) == {"a": 0.25, "closing alone": None}
    assert (found["es"].value, found["es"].unscored) == (0.25, 1)
    assert found["ma"].value == 0.75
