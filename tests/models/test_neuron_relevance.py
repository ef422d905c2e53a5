"""Integrated gradients: completeness, and more steps nearer; activation times gradient by differences."""

from __future__ import annotations

import pytest
import torch
from tests.contract.test_methods import random_set

from palimpsest.models.activations import inputs_seen
from palimpsest.models.mlp_weights import last_layers
from palimpsest.models.neuron_relevance import activation_times_gradient, instead, integrated_gradients


@pytest.fixture
def sure(tiny_llama):
    """Weights large enough for a neuron to matter."""
    with torch.no_grad():
        for parameter in tiny_llama.parameters():
            parameter.mul_(3.0)
    return tiny_llama


@pytest.fixture
def examples():
    return random_set("f", 2, 1)


def probability(model, batch):
    with torch.no_grad():
        return batch.predict(model).logp_S.exp().sum().item()


def test_the_sum_over_a_layer_is_what_silencing_it_takes(sure, examples):
    """Completeness: Σ_k Att_k = F(a) − F(0), for each layer and row."""
    layers = last_layers(sure, "test")
    found = integrated_gradients(sure, layers, examples, examples.ids, steps=64)
    for n, example_id in enumerate(examples.ids):
        batch = examples.batch([example_id])
        whole = probability(sure, batch)
        for number, layer in enumerate(layers):
            with torch.no_grad(), inputs_seen(sure, (layer,)) as seen:
                batch.predict(sure)
            with instead(sure, layer, torch.zeros_like(seen[layer][0])):
                silent = probability(sure, batch)
            width = seen[layer][0].shape[-1]
            total = found[n, number * width : (number + 1) * width].sum().item()
            assert abs(whole - silent) > 1e-4
            assert total == pytest.approx(whole - silent, rel=5e-3, abs=1e-6)


def test_more_steps_are_nearer(sure, examples):
    layers = last_layers(sure, "test")
    few, more, most = (integrated_gradients(sure, layers, examples, examples.ids, steps=m) for m in (2, 8, 64))
    assert (more - most).abs().max() < (few - most).abs().max() / 4


def test_activation_times_gradient_is_the_slope_of_a_scale(sure, examples):
    """Σ_k over a layer is d/dα of the label tokens' logits with α a in the place of a, at α = 1."""
    model = sure.double()
    layers = last_layers(model, "test")
    found = activation_times_gradient(model, layers, examples, examples.ids)
    for n, example_id in enumerate(examples.ids):
        batch, h = examples.batch([example_id]), 3e-3
        for number, layer in enumerate(layers):
            with torch.no_grad(), inputs_seen(model, (layer,)) as seen:
                batch.predict(model)
            a, sides = seen[layer][0], []
            for alpha in (1 + h, 1 - h):
                with torch.no_grad(), instead(model, layer, alpha * a):
                    said = batch.predict(model)
                sides.append(said.logits_SV.gather(1, said.target_S[:, None]).sum().item())
            slope = (sides[0] - sides[1]) / (2 * h)
            width = a.shape[-1]
            total = found[n, number * width : (number + 1) * width].sum().item()
            assert total == pytest.approx(slope, rel=2e-3, abs=1e-3)
