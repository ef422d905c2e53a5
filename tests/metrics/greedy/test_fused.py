from __future__ import annotations

import pytest
import torch
from transformers import DynamicCache, GPTNeoConfig, GPTNeoForCausalLM

from palimpsest.metrics.greedy.fused import FusedKernels


@pytest.fixture
def model():
    torch.manual_seed(0)
    config = GPTNeoConfig(
        vocab_size=50,
        hidden_size=32,
        num_layers=4,
        num_heads=4,
        attention_types=[[["global", "local"], 2]],
        max_position_embeddings=32,
        window_size=7,
        initializer_range=0.3,
    )
    return GPTNeoForCausalLM(config).eval()


@pytest.mark.parametrize("length", [1, 5, 7, 8, 20])
def test_whole_texts_give_the_same_logits(model, length):
    tokens = torch.randint(0, 50, (3, length))
    with torch.inference_mode():
        expected = model(tokens).logits
        with FusedKernels(model):
            assert torch.allclose(model(tokens).logits, expected, atol=1e-4)


@pytest.mark.parametrize("length", [1, 6, 7, 8, 20])
def test_a_step_after_a_cache_gives_the_same_logits(model, length):
    tokens = torch.randint(0, 50, (3, length + 1))
    with torch.inference_mode():
        expected = model(tokens).logits[:, -1]
        cache = DynamicCache()
        model(tokens[:, :-1], past_key_values=cache, use_cache=True)
        with FusedKernels(model):
            step = model(tokens[:, -1:], past_key_values=cache, use_cache=True).logits[:, -1]
    assert torch.allclose(step, expected, atol=1e-4)


def test_several_positions_after_a_cache_fall_back(model):
    tokens = torch.randint(0, 50, (2, 12))
    with torch.inference_mode():
        expected = model(tokens).logits[:, -4:]
        cache = DynamicCache()
        model(tokens[:, :-4], past_key_values=cache, use_cache=True)
        with FusedKernels(model):
            assert torch.allclose(model(tokens[:, -4:], past_key_values=cache).logits, expected, atol=1e-4)


def test_right_padding_needs_no_mask(model):
    tokens = torch.randint(0, 50, (2, 12))
    mask = torch.ones_like(tokens)
    mask[1, 5:] = 0
    with torch.inference_mode():
        expected = model(tokens, attention_mask=mask).logits
        with FusedKernels(model):
            found = model(tokens, attention_mask=mask).logits
    assert torch.allclose(found[0], expected[0], atol=1e-4)
    assert torch.allclose(found[1, :5], expected[1, :5], atol=1e-4)


def test_the_model_is_as_before_also_after_an_error(model):
    before = {name: set(vars(module)) for name, module in model.named_modules()}
    with FusedKernels(model):
        assert "_attn" in vars(model.transformer.h[0].attn.attention)
    with pytest.raises(IndexError), FusedKernels(model):
        model(torch.tensor([[999]]))
    assert {name: set(vars(module)) for name, module in model.named_modules()} == before


def test_half_precision_stays_as_it_is(model):
    with FusedKernels(model.bfloat16()):
        assert "_attn" not in vars(model.transformer.h[0].attn.attention)
