"""Unlearning layers: what they add, what folds, and what several of them are fused to."""

import pytest
import torch
import torch.nn.functional as F
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from palimpsest.errors import ModelError
from palimpsest.models.parts import attach, off, parts_of
from palimpsest.models.parts.unlearning_layer import UnlearningLayer, UnlearningLayerConfig, fused_layer, recording
from palimpsest.models.parts.with_parts import folded

TOKENS = torch.tensor([[1, 5, 9, 3]])
MAKES = {
    "llama": ("model.layers.0.mlp", "down_proj", lambda: LlamaForCausalLM(LlamaConfig(
        vocab_size=32, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2))),
    "gpt2": ("transformer.h.0.mlp", "c_proj", lambda: GPT2LMHeadModel(GPT2Config(
        vocab_size=32, n_embd=16, n_inner=24, n_layer=2, n_head=2))),
}  # fmt: skip


def layer_of(form: str, at: str = "model.layers.0.mlp", *, seed: int = 0, **options) -> UnlearningLayer:
    torch.manual_seed(seed)
    widths = {"width_in": 24 if form == "lora" else 16, "width_out": 16, "rank": 4, "noise": 0.3}
    return UnlearningLayer(UnlearningLayerConfig(at=at, form=form, **{**widths, **options}))


def bearing(make: str, form: str):
    torch.manual_seed(0)
    place, last, build = MAKES[make]
    model = build().eval()
    return attach(model, [layer_of(form, f"{place}.{last}" if form == "lora" else place)])


@torch.no_grad()
def said(model):
    return model(TOKENS).logits


@pytest.mark.parametrize("make", MAKES)
@pytest.mark.parametrize("form", ["linear", "lora"])
@pytest.mark.parametrize("alpha", [1.0, 0.5])
def test_linear_maps_fold_exactly(make, form, alpha):
    model = bearing(make, form)
    parts_of(model)[0].alpha = alpha
    with_layer = said(model)
    with off(model):
        assert not torch.allclose(said(model), with_layer, atol=1e-3)
    assert len(folded(model)) == 1
    assert not parts_of(model)
    assert torch.allclose(said(model), with_layer, atol=1e-5)


def test_a_bottleneck_and_a_layer_to_be_fused_stay():
    assert folded(bearing("llama", "bottleneck")) == ()
    torch.manual_seed(0)
    model = attach(MAKES["llama"][2]().eval(), [layer_of("linear", folds=False)])
    assert folded(model) == ()


def test_a_network_that_does_more_than_its_last_layer_is_not_folded():
    model = bearing("llama", "linear")
    model.model.layers[0].mlp.forward = lambda x: torch.abs(type(model.model.layers[0].mlp).forward(
        model.model.layers[0].mlp, x))  # fmt: skip
    before = model.model.layers[0].mlp.down_proj.weight.clone()
    assert folded(model) == ()
    assert torch.equal(model.model.layers[0].mlp.down_proj.weight, before)


def test_layers_of_one_place_begin_alike_whatever_the_seed():
    one, other = layer_of("bottleneck", seed=0), layer_of("bottleneck", seed=1)
    assert torch.equal(one.down, other.down)
    assert not torch.equal(one.up, other.up)
    assert not torch.equal(one.down, layer_of("bottleneck", "model.layers.1.mlp").down)


def test_gram_matrices_are_those_of_what_entered():
    layer, x = layer_of("bottleneck"), torch.randn(2, 5, 16)
    layer(x)
    with recording([layer]):
        layer(x[:1])
        layer(x[1:])
    layer(x)
    flat = x.reshape(-1, 16)
    inner = F.gelu(flat @ layer.down)
    assert torch.allclose(layer.grams["input"], (flat.T @ flat).double(), atol=1e-4)
    assert torch.allclose(layer.grams["inner"], (inner.T @ inner).double(), atol=1e-4)


@pytest.mark.parametrize("form", ["linear", "lora", "bottleneck"])
def test_requests_in_separate_directions_keep_what_each_learned(form):
    layers = [layer_of(form, seed=seed) for seed in (0, 1)]
    width = layers[0].config.width_in
    inputs = [torch.zeros(30, width), torch.zeros(30, width)]
    inputs[0][:, : width // 2] = torch.randn(30, width // 2)
    inputs[1][:, width // 2 :] = torch.randn(30, width - width // 2)
    for layer, x in zip(layers, inputs, strict=True):
        with recording([layer]):
            layer(x)
    made = fused_layer(layers, [layer.grams for layer in layers], 1e-9)
    if form == "linear":  # one map can do both exactly
        for layer, x in zip(layers, inputs, strict=True):
            assert torch.allclose(made(x), layer(x), atol=1e-4)
    else:  # low rank cannot, but is nearer to each than the other request's layer
        for layer, other, x in zip(layers, reversed(layers), inputs, strict=True):
            assert (made(x) - layer(x)).norm() < (other(x) - layer(x)).norm()


def test_layers_of_different_places_are_refused():
    layers = [layer_of("linear"), layer_of("linear", "model.layers.1.mlp")]
    with pytest.raises(ModelError, match=r"cannot be fused: one is a linear at model.layers.0.mlp .* another a linear"):
        fused_layer(layers, [{}, {}], 1e-3)
