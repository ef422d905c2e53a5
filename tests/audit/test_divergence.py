"""Divergences against SciPy, at their limits, and between models."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from scipy.stats import entropy
from tests.data.test_image import some
from tests.models.test_resnet import tiny

from palimpsest.audit.model_distance import compare_models, js_between, js_per_position, kl_between, kl_per_position
from palimpsest.data.encode.augment import Augmentation
from palimpsest.data.encode.batch import TextSet, TokenSequence


@given(st.integers(0, 10_000), st.integers(1, 5), st.integers(2, 9))
def test_they_are_scipy_s(seed, positions, classes):
    generator = torch.Generator().manual_seed(seed)
    a, b = (torch.randn(positions, classes, generator=generator, dtype=torch.float64) * 3 for _ in range(2))
    p, q = a.softmax(1).numpy(), b.softmax(1).numpy()
    kl = [entropy(*pair) for pair in zip(p, q, strict=True)]
    js = [jensenshannon(*pair) ** 2 for pair in zip(p, q, strict=True)]
    assert kl_between(a.log_softmax(1), b.log_softmax(1)) == pytest.approx(sum(kl) / positions, abs=1e-12)
    assert js_between(a.log_softmax(1), b.log_softmax(1)) == pytest.approx(sum(js) / positions, abs=1e-12)


def test_by_hand():
    """KL((1/2, 1/2) || (1/4, 3/4)) = ln(2)/2 + ln(2/3)/2 = 0.143841; averaged with 0."""
    a, b = torch.tensor([[0.5, 0.5], [0.1, 0.9]]).log(), torch.tensor([[0.25, 0.75], [0.1, 0.9]]).log()
    assert kl_between(a, b) == pytest.approx(0.143841 / 2, abs=1e-6)


def test_limits():
    left, right = torch.tensor([[1.0, 0.0]]).log(), torch.tensor([[0.0, 1.0]]).log()
    assert js_per_position(left, right).item() == pytest.approx(math.log(2))
    assert kl_per_position(left, right).item() == math.inf
    assert kl_per_position(left, left).item() == 0.0
    assert js_between(left, right) == js_between(right, left)


def test_models_over_images_in_any_batches():
    reference, model, examples = tiny().train(), tiny("resnet18"), some(5, augment=Augmentation())
    images = examples.plain().batch(examples.ids).images_BCHW
    found = compare_models(reference, model, examples, batch_size=2)
    assert reference.training
    with torch.no_grad():
        a, b = (m.eval()(pixel_values=images).logits.log_softmax(1) for m in (reference, model))
    assert found.kl == pytest.approx(kl_between(a, b), rel=1e-4)
    assert found.js == pytest.approx(js_between(a, b), rel=1e-4)
    assert found.n == 5
    assert compare_models(model, model, examples) == (0.0, pytest.approx(0.0, abs=1e-7), 5)


def test_models_over_texts_count_label_tokens(tiny_llama):
    rows = {"a": (5, 6, 7, 8), "b": (9, 10, 11)}
    examples = TextSet([TokenSequence(i, row, (False, *[True] * (len(row) - 1))) for i, row in rows.items()], 0)
    other = type(tiny_llama)(tiny_llama.config).eval()
    found = compare_models(tiny_llama, other, examples)
    with torch.no_grad():
        pairs = [
            [m(torch.tensor([row])).logits[0, :-1].log_softmax(-1) for row in rows.values()]
            for m in (tiny_llama, other)
        ]
    assert found.n == 5
    assert found.kl == pytest.approx(kl_between(*(torch.cat(parts) for parts in pairs)), rel=1e-4)
