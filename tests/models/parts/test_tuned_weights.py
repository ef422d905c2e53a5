"""Tuned weights: the model with its own weights plus the differences, and its own weights untouched."""

from __future__ import annotations

import copy

import torch
from tests.methods.view_runs import logits, pictures, tiny_vit

from palimpsest.models.parts import attach
from palimpsest.models.parts.tuned_weights import TunedWeights, TunedWeightsConfig, tuned_tensors


def test_answers_as_the_model_with_the_differences_added_and_leaves_its_weights_alone():
    model, rows = tiny_vit(), pictures((0, 1))
    plain, moved = logits(model, rows), copy.deepcopy(model)
    part = TunedWeights(TunedWeightsConfig(tensors=tuned_tensors(model, "classifier")))
    attach(model, [part])
    assert torch.equal(logits(model, rows), plain)
    torch.manual_seed(3)
    for one, delta in zip(part.config.tensors, part.delta, strict=True):
        delta.data = 0.05 * torch.randn(delta.shape)
        getattr(moved.get_submodule(one.at), one.name).data.add_(delta.data)
    before = {name: t.clone() for name, t in model.state_dict().items()}
    assert torch.equal(logits(model, rows), logits(moved, rows))
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())
    assert {f"{one.at}.{one.name}" for one in part.config.tensors} == {
        name for name, _ in moved.named_parameters() if not name.startswith("classifier")
    }


def test_a_call_that_fails_leaves_the_weights_in_their_place():
    model = tiny_vit()
    part = TunedWeights(TunedWeightsConfig(tensors=tuned_tensors(model, "classifier")))
    attach(model, [part])
    own = model.vit.layers[0].mlp.fc1.weight
    try:
        model.vit.layers[0].mlp.fc1(torch.zeros(1, 3))
    except RuntimeError:
        assert model.vit.layers[0].mlp.fc1.weight is own
    else:
        raise AssertionError("a row of three entered a layer of sixteen")
