"""Entropy against its definition, of texts and of images."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.data.test_image import some
from tests.models.test_resnet import tiny

from palimpsest.data.encode.augment import Augmentation
from palimpsest.data.encode.batch import TextSet, TokenSequence
from palimpsest.metrics import build
from palimpsest.metrics.entropy import Entropy
from palimpsest.metrics.evaluate import evaluate
from palimpsest.metrics.metric import Facts, Moments
from palimpsest.models.divergence import entropy


def test_by_hand():
    """Of 1/2, 1/4, 1/4 it is 1.5 ln 2; of a sure prediction 0; of an impossible class nothing."""
    logits = torch.tensor([[0.5, 0.25, 0.25], [1.0, 0.0, 0.0]]).log()
    entropy_S = entropy(logits)
    assert entropy_S.tolist() == pytest.approx([1.5 * np.log(2), 0.0])
    facts = Facts(*[np.zeros(2, int)] * 4, ends_with_eos=False, moments=Moments(np.zeros(2), entropy_S.numpy()))
    assert Entropy().compute({"x": Entropy().update(facts)}).value == pytest.approx(0.75 * np.log(2))


def test_without_labels_or_moments_it_is_unscored():
    nothing = np.zeros(0, dtype=np.float32)
    assert Entropy().update(Facts(*[nothing] * 4, ends_with_eos=False, moments=Moments(nothing, nothing))) is None
    assert Entropy().update(Facts(*[nothing] * 4, ends_with_eos=False)) is None


def test_entropies_of_images_equal_a_loop_and_leave_no_trace():
    model, examples = tiny().train(), some(5, augment=Augmentation())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    score = evaluate(model, examples, [build("entropy", {})], batch_size=2).scores["entropy"]
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    for example_id, value in score.by_id.items():
        p = model.eval()(pixel_values=examples.plain().batch([example_id]).images_BCHW).logits[0].double().softmax(0)
        assert value == pytest.approx(-(p * p.log()).sum().item(), rel=1e-4)
    assert list(score.by_id) == list(examples.ids)
    assert score.unit == "nats"


def test_entropies_of_texts_are_means_over_label_tokens(tiny_llama):
    rows = {"a": (5, 6, 7, 8), "b": (9, 10, 11)}
    examples = TextSet([TokenSequence(i, row, (False, False, *[True] * (len(row) - 2))) for i, row in rows.items()], 0)
    found = evaluate(tiny_llama, examples, [build("entropy", {})]).scores["entropy"].by_id
    for example_id, row in rows.items():
        p_TV = tiny_llama(torch.tensor([row])).logits[0, 1:-1].double().softmax(-1)
        assert found[example_id] == pytest.approx(-(p_TV * p_TV.log()).sum(-1).mean().item(), rel=1e-4)
