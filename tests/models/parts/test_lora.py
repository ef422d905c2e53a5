"""LoRA as a part: PEFT's bits, what cannot be kept beside others, and its fold against PEFT's merge."""

from __future__ import annotations

import copy

import pytest
import torch

from palimpsest.errors import ModelError
from palimpsest.models import parts
from palimpsest.models.parts.lora import as_part, kept_beside
from palimpsest.models.parts.with_parts import folded
from palimpsest.models.scope import Scope, apply_scope

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")


def said(model) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=torch.arange(12).reshape(2, 6)).logits.clone()


@pytest.fixture
def adapted(tiny_llama):
    """A PEFT model whose every adapter moved."""
    model = apply_scope(tiny_llama, Scope(kind="lora", rank=3))
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.add_(0.1 * torch.randn(parameter.shape))
    return model.eval()


def test_beside_the_weights_it_gives_the_bits_of_peft(adapted):
    wanted = said(adapted)
    with adapted.disable_adapter():
        plain = said(adapted)
    model = kept_beside(adapted)
    assert type(model).__name__ == "LlamaForCausalLM"
    assert torch.equal(said(model), wanted)
    with parts.off(model):
        assert torch.equal(said(model), plain)


def test_it_folds_as_peft_merges(adapted):
    merged = copy.deepcopy(adapted).merge_and_unload()
    model = kept_beside(adapted)
    assert folded(model) == ()  # not by itself
    (part,) = folded(model, every=True)
    assert part.kind == "lora"
    torch.testing.assert_close(said(model), said(merged), rtol=0, atol=1e-5)


def test_a_weight_that_serves_two_is_not_folded_into(tiny_llama):
    """The tiny Llama's head is its embedding."""
    model = apply_scope(tiny_llama, Scope(kind="lora", rank=2, names=("lm_head",)))
    with torch.no_grad():
        model.get_base_model().lm_head.lora_B["default"].weight.add_(1)
    model = kept_beside(model)
    wanted = said(model)
    assert folded(model, every=True) == ()
    assert torch.equal(said(model), wanted)


def test_what_is_more_than_two_matrices_is_refused(tiny_llama):
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(tiny_llama, LoraConfig(r=2, target_modules=["q_proj"], use_dora=True))
    with pytest.raises(ModelError, match=r"adapter of model.layers.0.self_attn.q_proj cannot be kept as a part"):
        as_part(model)


def test_an_adapter_goes_on_the_models_own_layers_not_on_parts(own_parts, tiny_llama):
    kind = parts.load("nudge")
    parts.attach(tiny_llama, [kind(kind.Config(at="model.layers.0.mlp.down_proj", width=32))])
    wanted = said(tiny_llama)
    model = apply_scope(tiny_llama, Scope(kind="lora", rank=2))
    assert not [name for name, _ in model.named_parameters() if "palimpsest_parts" in name and "lora" in name]
    assert torch.equal(said(model), wanted)
