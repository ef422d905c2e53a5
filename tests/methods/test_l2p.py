"""L2P's loss: over the classes of the task alone, less the cosines of the keys that were chosen."""

from __future__ import annotations

import math

import pytest
import torch
from tests.methods.prompt_world import built, fresh, task

from palimpsest import methods
from palimpsest.contract import Phase
from palimpsest.errors import ModelError
from palimpsest.models.current_classes import current_classes_of, task_loss
from palimpsest.models.modes import asked
from palimpsest.models.parts import off
from palimpsest.models.resnet import SmallResNet, resnet_config


def test_both_terms_by_loops():
    examples = task("vit", (1, 3))
    method, model = built(fresh("vit"), "l2p", examples)
    batch = examples.batch(examples.ids)
    terms = method.loss(model, {"learn": batch}, Phase("joint", ("learn",)))
    logits = batch.predict(model).logits_SV.tolist()
    with asked(model), off(model):
        query = model.vit(**batch.inputs()).last_hidden_state[:, 0]
    (pool,) = model.palimpsest_parts
    loss = pulled = 0.0
    for row, label in enumerate(batch.label_B.tolist()):
        loss -= logits[row][label] - math.log(math.exp(logits[row][1]) + math.exp(logits[row][3]))
        cos = sorted(float(torch.cosine_similarity(query[row], key, dim=0)) for key in pool.key_MD.detach())
        pulled += sum(cos[-2:])
    assert abs(terms["learn"].total.item() - loss) < 1e-4
    assert abs(terms["pull"].total.item() - pulled) < 1e-4
    assert (terms["learn"].weight, terms["pull"].weight, terms["pull"].per) == (1.0, -0.1, "example")


def test_other_classes_have_no_gradient():
    logits = torch.zeros(2, 4, requires_grad=True)
    task_loss(logits, torch.tensor([1, 3]), current_classes_of(task("vit", (1, 3)), 4)).backward()
    assert logits.grad.tolist() == [[0, -0.5, 0, 0.5], [0, 0.5, 0, -0.5]]


def test_a_class_alone_is_held_against_what_is_said_for_others():
    logits = torch.zeros(1, 4, requires_grad=True)
    loss = task_loss(logits, torch.tensor([2]), current_classes_of(task("vit", (2,)), 4))
    loss.backward()
    assert abs(loss.item() - math.log(4)) < 1e-6
    assert logits.grad.tolist() == [[0, 0, -0.75, 0]]


def test_a_set_without_classes_counts_all():
    assert current_classes_of(object(), 4) is None
    assert abs(task_loss(torch.zeros(1, 4), torch.tensor([2]), None).item() - math.log(4)) < 1e-6


def test_a_model_without_tokens_is_refused():
    model = SmallResNet(resnet_config("resnet20", 2, widths=(4, 4, 4), image_size=8))
    with pytest.raises(ModelError, match="no blocks with an attention that takes prompts"):
        methods.load("l2p")(methods.configure("l2p", {})).check(model)
