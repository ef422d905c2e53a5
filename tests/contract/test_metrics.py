"""What every metric must pass, also one that is added tomorrow."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

from palimpsest import metrics
from palimpsest.data.encode.batch import TextSet, TokenSequence
from palimpsest.metrics.evaluate import evaluate
from palimpsest.metrics.metric import Ask
from palimpsest.records import Direction

pytestmark = pytest.mark.parametrize("name", metrics.names())

ROWS = {"long": (3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3), "middle": (2, 7, 1, 8, 2, 8, 1, 8, 2, 8, 4, 5, 9, 0)}


@pytest.fixture
def second(tiny_llama):
    """A model to put beside the measured one, for the metrics that ask for it."""
    torch.manual_seed(1)
    return type(tiny_llama)(tiny_llama.config).eval()


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


def test_values_are_in_range_and_inside_their_interval(name, tiny_llama, second):
    metric = metrics.build(name, {})
    (score,) = evaluate(tiny_llama, examples(), [metric], beside=second).scores.values()
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
def test_does_not_depend_on_the_batch_size(name, tiny_llama, second, batch_size):
    metric = metrics.build(name, {})
    (one,) = evaluate(tiny_llama, examples(), [metric], beside=second).scores.values()
    (other,) = evaluate(tiny_llama, examples(), [metric], beside=second, batch_size=batch_size).scores.values()
    assert other.by_id == pytest.approx(one.by_id, rel=1e-5)


def test_same_input_same_score(name, tiny_llama, second):
    one, other = (evaluate(tiny_llama, examples(), [metrics.build(name, {})], beside=second) for _ in range(2))
    assert one.scores == other.scores


def test_what_cannot_be_scored_is_none_and_counted(name, tiny_llama, second):
    sequences = [TokenSequence("silent", (3, 1, 4), (False, False, False)), examples()["long"]]
    (score,) = evaluate(tiny_llama, TextSet(sequences, 0), [metrics.build(name, {})], beside=second).scores.values()
    assert score.by_id["silent"] is None
    assert score.by_id["long"] is not None
    assert (score.n, score.unscored) == (1, 1)
    assert (score.low, score.high) == (None, None)


def test_an_ask_that_nobody_serves_leaves_it_unscored_and_says_why(name, tiny_llama, monkeypatch):
    """Not an error: the other metrics of the call are measured all the same."""
    other = metrics.build("accuracy" if name != "accuracy" else "ma", {})
    monkeypatch.setattr(metrics.load(name), "asks", frozenset({Ask.HIDDEN, Ask.GRADIENT}))
    found = evaluate(tiny_llama, examples(), [metrics.build(name, {}), other]).scores
    score = found[metrics.build(name, {}).key]
    assert score.why == "nothing serves gradients, hidden states of texts"
    assert (score.value, score.n, score.unscored, set(score.by_id.values())) == (None, 0, 2, {None})
    assert found[other.key].n == 2


def test_what_it_asks_for_is_enough_and_nothing_more_is_filled(name, tiny_llama, second):
    metric, seen = metrics.build(name, {}), []
    update = metric.update
    metric.update = lambda facts: (seen.append(facts), update(facts))[1]
    evaluate(tiny_llama, examples(), [metric], beside=second)
    for facts in seen:
        assert (facts.greedy is not None) == (Ask.GREEDY in metric.asks) == (metric.decoding is not None)
        assert (facts.moments is not None) == bool({Ask.MOMENTS, Ask.LIKELIHOOD} & metric.asks)
        assert (facts.kl_S is not None) == (Ask.BESIDE in metric.asks)
    assert len(seen) == 2
