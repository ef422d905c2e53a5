"""Alignment: closed form without covariance, whose turn it is, and steps that do not depend on how they are cut."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tests.methods.small_classes import class_rows, small_classifier

from palimpsest.data.encode.any_set import labels_of
from palimpsest.models.class_gaussians import ClassGaussian, estimated
from palimpsest.models.head_inputs import head_inputs
from palimpsest.rules.alignment import Alignment, AlignmentConfig, noise_of

ROWS = class_rows("images", (1, 2), each=5)


def gaussian(value: float, size: float, task: int = 0) -> ClassGaussian:
    wide = torch.float64
    return ClassGaussian(torch.full((16,), value, dtype=wide), size * torch.eye(16, dtype=wide), task)


def alignment(size: float = 1.0, seed: int = 0, **options: Any) -> Alignment:
    """One earlier class, 0; two rows each of the others matter."""
    return Alignment(AlignmentConfig(**options), ROWS, {0: gaussian(0.3, size)}, seed)


def gradient(found: Alignment, model: Any, cuts: list[tuple[str, ...]], step: int = 0) -> torch.Tensor:
    model.zero_grad()
    (phase,) = found.phases(step)
    for ids in cuts:
        (found.loss(model, ROWS.batch(ids), phase).total / len(ROWS)).backward()
    return model.classifier.weight.grad.clone()


def test_it_knows_old_and_new():
    found = alignment()
    assert (found.old, found.classes, found.task) == ((0,), (1, 2), 1)
    assert {label: len(ids) for label, ids in found.rows.items()} == {1: 5, 2: 5}
    again = Alignment(AlignmentConfig(), ROWS, {1: gaussian(0.0, 1.0, 4), 7: gaussian(0.0, 1.0, 2)}, 0)
    assert (again.old, again.task) == ((7,), 5)


def test_without_covariance_it_is_training_on_the_means():
    """15 draws of 3 classes, 5 of each: the mean of three cross-entropies at the class means."""
    model = small_classifier("images")
    found = alignment(size=0.0, ridge=0.0, shrink=0.0, samples=10, temperature=1.0)
    of_rows = estimated(head_inputs(model, ROWS), labels_of(ROWS), 1)
    still = {
        label: one._replace(covariance_DD=torch.zeros(16, 16, dtype=torch.float64)) for label, one in of_rows.items()
    }
    found.learned = lambda model: still  # type: ignore[method-assign]
    ours = gradient(found, model, [ROWS.ids])
    means_CD = torch.stack([gaussian(0.3, 0.0).mean_D, *(of_rows[label].mean_D for label in (1, 2))]).float()
    model.zero_grad()
    logits_CC = model.classifier(means_CD)[:, :3]
    norms_C = (logits_CC[:, :1].norm(dim=1) + logits_CC[:, 1:].norm(dim=1)) / 2
    F.cross_entropy(logits_CC / norms_C[:, None], torch.arange(3)).backward()
    wanted = model.classifier.weight.grad
    assert (ours - wanted).norm() / wanted.norm() < 1e-4
    assert ours[3].abs().sum() == 0  # no Gaussian of class 3
    assert all(p.grad is None for name, p in model.named_parameters() if "classifier" not in name)


def test_every_class_has_its_turn_as_often_but_for_one():
    found = alignment(samples=7)
    which, noise = found._drawn(ROWS.ids, step=3, width=16)
    counts = Counter(which.tolist())
    assert sum(counts.values()) == len(noise) == 30  # 3 · 7 draws wanted of 10 rows: 3 of each
    assert max(counts.values()) - min(counts.values()) <= 1


def test_a_step_does_not_depend_on_how_it_is_cut():
    model = small_classifier("images")
    whole = gradient(alignment(), model, [ROWS.ids])
    cut = gradient(alignment(), model, [(i,) for i in ROWS.ids])
    assert (whole - cut).norm() / whole.norm() < 1e-5


def test_draws_follow_from_seed_step_and_id_alone():
    model = small_classifier("images")
    torch.manual_seed(5)
    one = gradient(alignment(), model, [ROWS.ids])
    torch.manual_seed(6)
    assert torch.equal(gradient(alignment(), model, [ROWS.ids]), one)
    assert not torch.equal(gradient(alignment(seed=1), model, [ROWS.ids]), one)
    assert not torch.equal(gradient(alignment(), model, [ROWS.ids], step=1), one)
    assert not torch.equal(noise_of(0, "a", 0, 1, 4), noise_of(0, "b", 0, 1, 4))


def test_the_classes_of_the_run_are_estimated_anew_when_the_backbone_moved():
    model, found = small_classifier("images"), alignment()
    one = gradient(found, model, [ROWS.ids])
    with torch.no_grad():
        model.vit.layernorm.bias.add_(1.0)
    assert torch.equal(gradient(found, model, [ROWS.ids]), one)
    found.anew()
    assert not torch.equal(gradient(found, model, [ROWS.ids]), one)


@pytest.mark.parametrize(("samples", "rows", "passes"), [(256, 4, 3 * 768 / 770), (2, 2, 3 * 6 / 10)])
def test_the_stage_is_as_long_as_the_draws_that_are_wanted(samples, rows, passes):
    (stage,) = alignment(samples=samples).stages("head")
    assert (stage.anchor, stage.moves) == ("learn", ("head",))
    assert stage.training["batch_size"] == rows
    assert stage.epochs == pytest.approx(passes)


def test_there_is_none_without_earlier_classes_or_on_request():
    assert Alignment(AlignmentConfig(), ROWS, {}, 0).stages("head") == ()
    assert Alignment(AlignmentConfig(), ROWS, {1: gaussian(0.0, 1.0)}, 0).stages("head") == ()
    assert alignment(align_epochs=0).stages("head") == ()
