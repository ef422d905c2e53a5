"""Metrics of image classifiers against a plain loop over images."""

from __future__ import annotations

import pytest
import torch
from tests.data.test_image import some
from tests.models.test_resnet import tiny

from palimpsest import metrics
from palimpsest.data.encode.augment import Augmentation
from palimpsest.errors import DivergedError, PlanError
from palimpsest.metrics.evaluate import evaluate, evaluate_in_run

OF_IMAGES = tuple(name for name in metrics.names() if "image" in metrics.load(name).modalities)


def built(names=OF_IMAGES):
    return [metrics.build(name, {}) for name in names]


def test_some_metrics_are_for_images():
    assert {"accuracy", "entropy", "kl_beside", "nll", "prob"} <= set(OF_IMAGES) < set(metrics.names())


def test_they_equal_a_plain_loop():
    model, examples = tiny(), some(9)
    with torch.no_grad():
        model.linear.bias += torch.tensor([0.0, 1.0, 0.0, 0.0])
    scores = evaluate(model, examples, built(), batch_size=4).scores
    for example_id in examples.ids:
        batch = examples.batch([example_id])
        probabilities = model(pixel_values=batch.images_BCHW).logits[0].softmax(0)
        label = int(batch.label_B[0])
        assert scores["accuracy"].by_id[example_id] == float(int(probabilities.argmax()) == label)
        assert scores["prob"].by_id[example_id] == pytest.approx(probabilities[label].item(), rel=1e-4)
    right = [value for value in scores["accuracy"].by_id.values() if value is not None]
    assert 0 < scores["accuracy"].value == sum(right) / len(right) < 1
    assert (scores["prob"].n, scores["prob"].unscored) == (9, 0)


@pytest.mark.parametrize("batch_size", [1, 2, 9])
def test_they_do_not_depend_on_the_batch_size(batch_size):
    one, other = (
        evaluate(tiny(), some(9), built(), beside=tiny("resnet18"), batch_size=size).scores for size in (4, batch_size)
    )
    for key in one:
        assert other[key].by_id == pytest.approx(one[key].by_id, rel=1e-4)


def test_augmentation_and_train_mode_are_left_out_and_nothing_moves():
    model, state = tiny().train(), torch.get_rng_state()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = evaluate_in_run(model, some(augment=Augmentation()), built())
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.training
    assert found.scores["prob"].by_id == pytest.approx(evaluate(tiny(), some(), built()).scores["prob"].by_id, rel=1e-4)
    assert found.cost.tokens == 6


def test_progress_counts_images():
    seen = []
    evaluate(tiny(), some(5), built(), batch_size=2, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(2, 5), (4, 5), (5, 5)]


def test_metrics_of_texts_are_refused():
    with pytest.raises(PlanError, match="metrics el_10, es cannot be taken of images; accepted: accuracy, entropy"):
        evaluate(tiny(), some(), built(("accuracy", "el", "es")))


def test_logits_that_are_no_numbers_name_the_image():
    model = tiny()
    with torch.no_grad():
        model.linear.bias[0] = float("nan")
    with pytest.raises(DivergedError, match="logits on example 'i0' are not finite"):
        evaluate(model, some(), built())
