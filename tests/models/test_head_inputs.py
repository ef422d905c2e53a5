"""The head by its names, what enters it, and a loss that only some of its rows see."""

from __future__ import annotations

import math

import pytest
import torch
from tests.methods.small_classes import KINDS, class_rows, small_classifier

from palimpsest.data.encode.any_set import labels_of
from palimpsest.data.encode.controlled import as_shown
from palimpsest.data.sets.controls import Controls
from palimpsest.errors import PlanError
from palimpsest.models.current_classes import current_classes_of
from palimpsest.models.head_inputs import current_loss, head_in, head_inputs
from palimpsest.models.parts.backbone_growth import classes_of_sets
from palimpsest.models.scope import Scope, apply_scope


@pytest.mark.parametrize("kind", KINDS)
def test_the_head_gives_the_logits_of_what_enters_it(kind):
    model, rows = small_classifier(kind), class_rows(kind, (0, 2), each=3)
    head = head_in(model, "test")
    entering_ND = head_inputs(model, rows)
    with torch.no_grad():
        said = rows.batch(rows.ids).predict(model).logits_SV
        assert torch.allclose(head.module(entering_ND), said, atol=1e-5)
    assert {name for name, _ in model.named_parameters() if head.has(name)} == {"classifier.weight", "classifier.bias"}


def test_asking_leaves_no_trace(tmp_path):
    model, rows = small_classifier("images").train(), class_rows("images", (0,))
    state = torch.get_rng_state()
    head_inputs(model, rows)
    assert model.training
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
@pytest.mark.parametrize("kind", KINDS)
def test_under_an_adapter_it_is_the_module_that_holds_both(kind):
    model = apply_scope(small_classifier(kind), Scope(kind="lora", rank=2))
    head, rows = head_in(model, "test"), class_rows(kind, (0, 1), each=2)
    moving = [name for name, p in model.named_parameters() if p.requires_grad and head.has(name)]
    assert {name.split(".")[-3] for name in moving} == {"lora_A", "lora_B"}
    with torch.no_grad():
        for name in moving:
            model.get_parameter(name).add_(0.5)
        said = rows.batch(rows.ids).predict(model).logits_SV
        assert torch.allclose(head.module(head_inputs(model, rows)), said, atol=1e-4)


def test_a_head_that_is_frozen_is_refused():
    model = apply_scope(small_classifier("texts"), Scope(kind="layers", names=(r"layer\.0\.",)))
    with pytest.raises(PlanError, match=r"trains the head \(classifier\), and the scope freezes it.*scope.kind = all"):
        head_in(model, "slca")


@pytest.mark.parametrize("kind", KINDS)
def test_labels_are_those_of_the_rows_however_they_are_shown(kind):
    rows = class_rows(kind, (2, 0), each=2)
    for shown in (rows, as_shown(rows, Controls(temperature=2.0))):
        assert labels_of(shown).tolist() == [2, 2, 0, 0]
        assert classes_of_sets({"learn": shown}, ("learn", "replay")) == (0, 2)
        assert current_classes_of(shown, 3).tolist() == [True, False, True]


def test_the_loss_sees_the_classes_at_hand_alone():
    """softmax of (1, 3) at the second: log(1 + e^−2)."""
    logits_SV = torch.tensor([[9.0, 1.0, -4.0, 3.0]], requires_grad=True)
    loss = current_loss(logits_SV, torch.tensor([3]), (1, 3))
    assert loss.item() == pytest.approx(math.log(1 + math.exp(-2)))
    loss.backward()
    assert (logits_SV.grad != 0).tolist() == [[False, True, False, True]]


def test_one_class_alone_is_held_against_what_is_said_of_all_others():
    logits_SV = torch.tensor([[1.0, 3.0, 2.0]], requires_grad=True)
    loss = current_loss(logits_SV, torch.tensor([1]), (1,))
    loss.backward()
    said = math.exp(3) / (math.exp(1) + math.exp(3) + math.exp(2))
    assert loss.item() == pytest.approx(-math.log(said))
    assert logits_SV.grad is not None
    assert torch.allclose(logits_SV.grad, torch.tensor([[0.0, said - 1, 0.0]]))
