"""SLCA: which rows of the head move when, and that earlier classes are still known after a second task."""

from __future__ import annotations

import copy

import pytest
import torch
from tests.methods.small_classes import KINDS, accuracy, beside, learn, prepared, small_classifier, two_tasks

from palimpsest import methods
from palimpsest.errors import PlanError


def moved(model, start) -> set[str]:
    return {name for name, p in model.named_parameters() if not torch.equal(p, start[name])}


LONGER = {"num_train_epochs": 10}


@pytest.fixture(params=KINDS)
def after_one(request, tmp_path):
    """A model after a first task, its other head rows zero as where a head grows; what lies beside it; both tasks."""
    tasks = two_tasks(request.param)
    model = learn("slca", small_classifier(request.param), {"learn": tasks[0]}, tmp_path / "one", training=LONGER)
    with torch.no_grad():
        model.classifier.weight[2:] = 0
        model.classifier.bias[2:] = 0
    return model, beside(tmp_path / "one"), tasks


def test_a_first_run_leaves_the_other_head_rows_alone(tmp_path):
    start = small_classifier("images")
    model = learn("slca", copy.deepcopy(start), {"learn": two_tasks("images")[0]}, tmp_path / "one")
    assert torch.equal(model.classifier.weight[2:], start.classifier.weight[2:])
    assert torch.equal(model.classifier.bias[2:], start.classifier.bias[2:])
    assert not torch.equal(model.classifier.weight[:2], start.classifier.weight[:2])
    assert any(name.startswith("vit.") for name in moved(model, dict(start.named_parameters())))


def test_the_backbone_has_its_own_rate(tmp_path):
    """One step of plain descent: half the share moves it half as far, and the head as far."""
    ways, start = [], small_classifier("images")
    for share in (0.02, 0.01):
        how = {"max_steps": 1, "momentum": 0.0}
        learn_in = tmp_path / str(share)
        model = learn(
            "slca", copy.deepcopy(start), {"learn": two_tasks("images")[0]}, learn_in, training=how, backbone_rate=share
        )
        names = ("vit.layers.0.mlp.fc1.weight", "classifier.weight")
        ways.append([model.get_parameter(name) - start.get_parameter(name) for name in names])
    (body, head), (half_body, half_head) = ways
    assert (body - 2 * half_body).norm() / body.norm() < 1e-2
    assert torch.equal(head, half_head)


def test_a_second_task_leaves_the_first_known(after_one, tmp_path):
    model, found, (first, second) = after_one
    assert found["class_gaussians"].gaussians.keys() == {0, 1}
    how = {"training": LONGER, "align_epochs": 30}
    aligned = learn("slca", model, {"learn": second}, tmp_path / "two", found=found, **how)
    assert accuracy(aligned, first) > 0.8
    assert accuracy(aligned, second) > 0.8
    kept = beside(tmp_path / "two")["class_gaussians"].gaussians
    assert {label: one.task for label, one in kept.items()} == {0: 0, 1: 0, **dict.fromkeys(set(kept) - {0, 1}, 1)}
    assert len(kept) == 2 + len(set(second.label_N.tolist()))


def test_old_rows_move_in_the_alignment_alone(after_one, tmp_path):
    model, found, (_, second) = after_one
    start = model.classifier.weight.detach().clone()
    tuned = learn("slca", copy.deepcopy(model), {"learn": second}, tmp_path / "a", found=found, align_epochs=0)
    assert torch.equal(tuned.classifier.weight[:2], start[:2])
    aligned = learn("slca", model, {"learn": second}, tmp_path / "b", found=found)
    assert not torch.equal(aligned.classifier.weight[:2], start[:2])
    body = {name: p for name, p in tuned.named_parameters() if "classifier" not in name}
    assert all(torch.equal(p, body[name]) for name, p in aligned.named_parameters() if name in body)


def test_a_class_that_was_forgotten_is_not_drawn(after_one, tmp_path):
    model, found, (first, second) = after_one
    found["class_gaussians"].forget(
        [i for i, label in zip(first.ids, first.label_N.tolist(), strict=True) if not label]
    )
    method = prepared("slca", model, {"learn": second}, tmp_path / "two", found)
    assert method._alignment.old == (1,)


def test_a_temperature_of_zero_is_refused():
    with pytest.raises(PlanError, match="slca.temperature = 0"):
        methods.configure("slca", {"temperature": 0})
