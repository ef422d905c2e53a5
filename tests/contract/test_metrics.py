"""What every metric must pass, also one that is added tomorrow."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from palimpsest import metrics
from palimpsest.data.encode.batch import TextSet, TokenSequence
from palimpsest.metrics.evaluate import evaluate
from palimpsest.records import Direction

pytestmark = pytest.mark.parametrize("name", metrics.names())

ROWS = {"long": (3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3), "middle": (2, 7, 1, 8, 2, 8, 1, 8, 2, 8, 4, 5, 9, 0)}


def examples(rows=ROWS) -> TextSet:
    return TextSet(
        [TokenSequence(i, row, (False,) * 2 + (True,) * (len(row) - 2)) for i, row in rows.items()], pad_id=0
    )


def test_declares_what_readers_need(name):
    metric = metrics.load(name)
    assert isinstance(metric.direction, Direction)
    assert isinstance(metric.version, int)
    assert metric.version >= 1
    assert metric.unit.strip()
    assert metric.low < metric.high
    assert metrics.build(name, {}).key.startswith(name)


def test_states_its_source(name):
    docstring = sys.modules[metrics.load(name).__module__].__doc__
    assert "\nSource: " in docstring
    assert "By hand" in docstring


def test_has_its_own_test_file(name):
    assert (Path(__file__).parents[1] / "metrics" / f"test_{name}.py").is_file()


def test_options_go_through_json_and_carry_a_meaning(name):
    config = metrics.load(name).Config
    assert config(**json.loads(config().model_dump_json())) == config()
    assert all(field.description for field in config.model_fields.values())


def test_values_are_in_range_and_inside_their_interval(name, tiny_llama):
    metric = metrics.build(name, {})
    (score,) = evaluate(tiny_llama, examples(), [metric]).scores.values()
    assert (score.n, score.unscored) == (2, 0)
    assert all(metric.low <= value <= metric.high for value in score.by_id.values())
    assert metric.low <= score.low <= score.value <= score.high <= metric.high
    assert (score.metric, score.direction, score.unit, score.version) == (
        metric.key,
        metric.direction,
        metric.unit,
        metric.version,
    )


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_does_not_depend_on_the_batch_size(name, tiny_llama, batch_size):
    metric = metrics.build(name, {})
    (one,) = evaluate(tiny_llama, examples(), [metric]).scores.values()
    (other,) = evaluate(tiny_llama, examples(), [metric], batch_size=batch_size).scores.values()
    assert other.by_id == pytest.approx(one.by_id, rel=1e-5)


def test_same_input_same_score(name, tiny_llama):
    first, second = (evaluate(tiny_llama, examples(), [metrics.build(name, {})]).scores for _ in range(2))
    assert first == second


def test_what_cannot_be_scored_is_none_and_counted(name, tiny_llama):
    sequences = [TokenSequence("silent", (3, 1, 4), (False, False, False)), examples()["long"]]
    (score,) = evaluate(tiny_llama, TextSet(sequences, 0), [metrics.build(name, {})]).scores.values()
    assert score.by_id["silent"] is None
    assert score.by_id["long"] is not None
    assert (score.n, score.unscored) == (1, 1)
    assert (score.low, score.high) == (None, None)
