"""Heads with views: which views a pass goes through, that it leaves nothing behind, and what a wider one takes over."""

from __future__ import annotations

import copy

import pytest
import torch
from tests.methods.view_runs import logits, pictures, tiny_vit

from palimpsest.models.parts import attach, off
from palimpsest.models.parts.block_adapter import new_adapter
from palimpsest.models.parts.task_views import acting_alone, tasks_of
from palimpsest.models.parts.views_head import ViewsHead, ViewsHeadConfig


class Noting(ViewsHead):
    """Gives what it saw, as logits of two classes."""

    kind = "noting"

    def answer(self, features):
        self.noted = features
        return features[..., -1, :6]


@pytest.fixture
def model():
    """With two adapters that act, and a head that goes through the views 0, 2 and 1."""
    made = tiny_vit()
    adapters = [new_adapter(made, (), task, 4, 1.0) for task in (1, 2)]
    for adapter in adapters:
        for tensor in adapter.parameters():
            tensor.data = torch.randn(tensor.shape)
    head = Noting(ViewsHeadConfig(at="classifier", width=16, classes=6, tasks=(0, 2, 1)))
    head.present_C[:2] = True
    attach(made, [head, *adapters])
    return made.requires_grad_(False)


def features(model, task, rows):
    with off(model, [model.palimpsest_parts[0]]), acting_alone(model, task):
        return model.vit(**rows.batch(rows.ids).inputs()).last_hidden_state[:, 0]


def test_a_pass_goes_through_every_view_in_order(model):
    rows, head = pictures((0, 1)), model.palimpsest_parts[0]
    logits(model, rows)
    for place, task in enumerate((0, 2, 1)):
        assert torch.equal(head.noted[:, place], features(model, task, rows))
    assert tasks_of(model) == (1, 2)
    assert [part.times_off for part in model.palimpsest_parts] == [0, 0, 0]


def test_a_copy_goes_through_its_own_views(model):
    rows, again = pictures((0, 1)), copy.deepcopy(model)
    wanted = logits(model, rows)
    again.palimpsest_parts[1].up_0.fill_(5.0)
    assert not torch.equal(logits(again, rows), wanted)
    assert torch.equal(logits(model, rows), wanted)


def test_a_pass_that_fails_leaves_nothing_behind(model):
    rows = pictures((0, 1))
    wanted = logits(model, rows)
    with pytest.raises(ValueError, match="channel|image size|Input"):
        model(pixel_values=torch.zeros(1, 3, 8, 8))
    assert torch.equal(logits(model, rows), wanted)
    assert [part.times_off for part in model.palimpsest_parts] == [0, 0, 0]


def test_taught_it_is_a_cosine_classifier_of_one_view_and_other_classes_are_not_there(model):
    rows, head = pictures((0, 1)), model.palimpsest_parts[0]
    head.class_rows.data = torch.randn(6, 16)
    head.teach(torch.tensor([False, True, False, False, True, False]), 2)
    said, f = logits(model, rows), features(model, 2, rows)
    wanted = 16 * torch.nn.functional.cosine_similarity(f[:, None], head.class_rows[[1, 4]], dim=-1)
    assert torch.allclose(said[:, [1, 4]], wanted, atol=1e-4)
    assert torch.allclose(said[:, 0], said[:, [1, 4]].amin(1) - 100, atol=1e-4)


def test_without_a_class_all_are_alike(model):
    model.palimpsest_parts[0].present_C[:] = False
    assert not logits(model, pictures((0,))).any()


def test_a_wider_one_takes_over_what_both_have():
    old = Noting(ViewsHeadConfig(at="classifier", width=2, classes=2))
    old.class_rows.data, old.own_C[:], old.present_C[:] = torch.ones(2, 2), torch.tensor([1, 2]), True
    new = Noting(ViewsHeadConfig(at="classifier", width=2, classes=4))
    new.take_over(old)
    assert new.class_rows.tolist() == [[1, 1], [1, 1], [0, 0], [0, 0]]
    assert new.own_C.tolist() == [1, 2, 0, 0]
    assert new.present_C.tolist() == [True, True, False, False]
