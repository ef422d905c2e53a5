from __future__ import annotations

import math

import pytest
import torch

from palimpsest.metrics.evaluate import evaluate
from palimpsest.metrics.prob import Prob


def test_hand_worked_example(facts_of):
    """Probabilities 1/2 and 1/8: geometric mean 1/4."""
    statistics = Prob().update(facts_of([True, True], logp=[math.log(1 / 2), math.log(1 / 8)]))
    assert Prob().compute({"x": statistics}).value == pytest.approx(0.25)


@pytest.mark.parametrize(("logp", "value"), [([0.0, 0.0], 1.0), ([-5000.0, -5000.0], 0.0)])
def test_boundaries(facts_of, logp, value):
    assert Prob().compute({"x": Prob().update(facts_of([True, True], logp=logp))}).value == value


def test_without_labels_it_is_unscored(facts_of):
    assert Prob().update(facts_of([])) is None


def test_equals_a_plain_loop_on_a_model(half_learned, texts, as_set):
    row = texts[0].tolist()
    value = evaluate(half_learned, as_set([row], prompts=(7,)), [Prob()]).scores["prob"].value
    with torch.no_grad():
        probabilities = [
            float(half_learned(torch.tensor([row[:t]])).logits[0, -1].double().softmax(-1)[row[t]])
            for t in range(7, len(row))
        ]
    assert value == pytest.approx(math.prod(probabilities) ** (1 / len(probabilities)), rel=1e-5)


def test_set_value_is_the_mean_of_probabilities(facts_of):
    metric = Prob()
    statistics = {k: metric.update(facts_of([True], logp=[math.log(p)])) for k, p in (("x", 0.5), ("y", 0.1))}
    assert metric.compute(statistics).value == pytest.approx(0.3)
