"""NLL against a plain cross-entropy, by hand and over a set."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from palimpsest.metrics import build
from palimpsest.metrics.evaluate import evaluate
from palimpsest.metrics.metric import Facts, Moments
from palimpsest.metrics.nll import NLL


def facts(logp: list[float]) -> Facts:
    place = np.arange(len(logp))
    moments = Moments(np.array(logp, dtype=np.float32), np.zeros(len(logp), dtype=np.float32))
    return Facts(place, place, place > 0, np.zeros(len(logp)), ends_with_eos=False, moments=moments)


def test_by_hand():
    """p = 1/2 and 1/8: (ln 2 + ln 8) / 2 = 2 ln 2."""
    score = NLL().compute({"x": NLL().update(facts([math.log(1 / 2), math.log(1 / 8)]))})
    assert score.value == pytest.approx(2 * math.log(2), rel=1e-6)


def test_without_labels_or_moments_it_is_unscored():
    assert NLL().update(facts([])) is None
    assert NLL().update(Facts(*[np.zeros(1, int)] * 4, ends_with_eos=False)) is None


def test_equals_a_cross_entropy_per_example(half_learned, texts, as_set):
    score = evaluate(half_learned, as_set(texts.tolist()), [build("nll", {})]).scores["nll"]
    logits = half_learned(texts).logits[:, :-1].double()
    for row, tokens in enumerate(texts):
        expected = torch.nn.functional.cross_entropy(logits[row], tokens[1:]).item()
        assert score.by_id[f"x{row}"] == pytest.approx(expected, rel=1e-5)


def test_over_a_set_every_example_weighs_the_same():
    statistics = {"long": NLL().update(facts([-1.0] * 9)), "short": NLL().update(facts([-3.0]))}
    assert NLL().compute(statistics).value == 2.0
