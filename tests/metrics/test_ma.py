from __future__ import annotations

import numpy as np
import pytest

from palimpsest.metrics.evaluate import evaluate
from palimpsest.metrics.ma import MA


def test_hand_worked_example(facts_of):
    """Tokens 5 6 7 8 with arg-maxes 6, 9, 8: two of three are right."""
    assert MA().update(facts_of([True, False, True])) == (2.0, 3.0)


@pytest.mark.parametrize(
    ("right", "value"), [([True] * 4, 1.0), ([False] * 4, 0.0), ([False, False, False, True], 0.25)]
)
def test_boundaries(facts_of, right, value):
    assert MA().compute({"x": MA().update(facts_of(right))}).value == value


def test_a_final_eos_counts(facts_of):
    assert MA().update(facts_of([True, False], ends_with_eos=True)) == (1.0, 2.0)


def test_without_labels_it_is_unscored(facts_of):
    assert MA().update(facts_of([])) is None


@pytest.mark.slow
def test_equals_generate_for_every_position(half_learned, texts, literal_ma, as_set):
    by_id = evaluate(half_learned, as_set(texts.tolist()), [MA()]).scores["ma"].by_id
    for k, row in enumerate(texts.tolist()):
        assert by_id[f"x{k}"] == pytest.approx(literal_ma(half_learned, row), abs=1e-9, rel=0)


def test_only_the_completion_is_scored(half_learned, texts, literal_ma, as_set):
    rows = [texts[0, :14].tolist(), texts[1].tolist()]
    by_id = evaluate(half_learned, as_set(rows, prompts=(11, 3)), [MA()]).scores["ma"].by_id
    assert by_id["x0"] == pytest.approx(literal_ma(half_learned, rows[0], 11), abs=1e-9, rel=0)
    assert by_id["x1"] == pytest.approx(literal_ma(half_learned, rows[1], 3), abs=1e-9, rel=0)


def test_set_value_is_the_mean_over_examples(facts_of):
    metric = MA()
    score = metric.compute({"x": metric.update(facts_of([True])), "y": metric.update(facts_of([False] * 9)), "z": None})
    assert (score.value, score.n, score.unscored) == (0.5, 2, 1)
    assert score.by_id == {"x": 1.0, "y": 0.0, "z": None}
    assert np.isfinite([score.low, score.high]).all()
