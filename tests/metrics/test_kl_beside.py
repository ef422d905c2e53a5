"""KL to a second model against SciPy and by hand; without a second model the reason is said."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from scipy.stats import entropy as scipy_kl
from tests.data.test_image import some
from tests.models.test_resnet import tiny

from palimpsest.errors import DivergedError
from palimpsest.metrics import build
from palimpsest.metrics.evaluate import evaluate
from palimpsest.metrics.kl_beside import KLBeside
from palimpsest.metrics.metric import Facts


def test_by_hand():
    """q = (1/2, 1/2), p = (1/4, 3/4): ln(2)/2 + ln(2/3)/2; the second position does not differ."""
    kl_S = np.array([math.log(2) / 2 + math.log(2 / 3) / 2, 0.0], dtype=np.float32)
    facts = Facts(*[np.zeros(2, int)] * 4, ends_with_eos=False, kl_S=kl_S)
    assert KLBeside().compute({"x": KLBeside().update(facts)}).value == pytest.approx(0.143841 / 2, abs=1e-6)
    assert KLBeside().update(Facts(*[np.zeros(0)] * 4, ends_with_eos=False, kl_S=np.zeros(0))) is None


def moved(model: torch.nn.Module) -> torch.nn.Module:
    other = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(1.2)
    return other


@pytest.mark.parametrize("batch_size", [1, 2, 32])
def test_equals_scipy_per_example(half_learned, texts, as_set, batch_size):
    second = moved(half_learned).train()
    metrics = [build(name, {}) for name in ("kl_beside", "ma")]
    found = evaluate(half_learned, as_set(texts.tolist()), metrics, beside=second, batch_size=batch_size).scores
    assert second.training
    for row, tokens in enumerate(texts):
        p, q = (m.eval()(tokens[None]).logits[0, :-1].double().softmax(-1).detach() for m in (half_learned, second))
        expected = np.mean([scipy_kl(*pair) for pair in zip(q.numpy(), p.numpy(), strict=True)])
        assert found["kl_beside"].by_id[f"x{row}"] == pytest.approx(expected, rel=1e-3)
    assert found["kl_beside"].why == ""


def test_a_model_does_not_differ_from_itself():
    model = tiny()
    score = evaluate(model, some(3), [build("kl_beside", {})], beside=model).scores["kl_beside"]
    assert all(abs(value) < 1e-7 for value in score.by_id.values())


def test_without_a_second_model_it_is_unscored_and_says_why(half_learned, texts, as_set):
    metrics = [build("kl_beside", {}), build("ma", {})]
    found = evaluate(half_learned, as_set(texts.tolist()), metrics).scores
    assert found["kl_beside"].why == "no second model to compare with was given"
    assert (found["kl_beside"].value, found["kl_beside"].n, found["kl_beside"].unscored) == (None, 0, 3)
    assert found["ma"].n == 3
    assert found["ma"].why == ""


def test_a_second_model_that_says_no_numbers_names_the_example(half_learned, texts, as_set):
    broken = copy.deepcopy(half_learned)
    with torch.no_grad():
        broken.get_input_embeddings().weight[:12] = torch.nan
    with pytest.raises(DivergedError, match="the two models' logits on example 'x0' are not finite"):
        evaluate(half_learned, as_set(texts.tolist()), [build("kl_beside", {})], beside=broken)
