"""The feed-forward network of every block is found in every layout, and its place is where its own output is."""

from __future__ import annotations

import pytest
import torch
import transformers
from tests.hardening.architectures import tiny

from palimpsest.errors import ModelError
from palimpsest.models.places import ffn_outputs, module_at

PLACES = {
    "llama": ["model.layers.0.mlp", "model.layers.1.mlp"],
    "gpt2": ["transformer.h.0.mlp", "transformer.h.1.mlp"],
    "gpt_neox": ["gpt_neox.layers.0.mlp", "gpt_neox.layers.1.mlp"],
    "opt": ["model.decoder.layers.0.fc2", "model.decoder.layers.1.fc2"],
    "xglm": ["model.layers.0.fc2", "model.layers.1.fc2"],
    "bloom": ["transformer.h.0.mlp.dense_4h_to_h", "transformer.h.1.mlp.dense_4h_to_h"],
    "mpt": ["transformer.blocks.0.ffn.down_proj", "transformer.blocks.1.ffn.down_proj"],
    "bert": ["bert.encoder.layer.0.output.dense", "bert.encoder.layer.1.output.dense"],
    "mixtral": ["model.layers.0.mlp", "model.layers.1.mlp"],
    "granitemoe": ["model.layers.0.block_sparse_moe", "model.layers.1.block_sparse_moe"],
    "ctrl": ["transformer.h.0.ffn", "transformer.h.1.ffn"],
    "lfm2": ["model.layers.0.feed_forward", "model.layers.1.feed_forward"],
}
MORE = ["gemma", "gemma2", "gemma3_text", "qwen2", "qwen3", "qwen3_moe", "phi", "phi3", "falcon", "gptj", "gpt_neo",
        "olmo2", "cohere", "stablelm", "starcoder2", "gpt_oss", "deepseek_v3", "roberta", "recurrent_gemma", "rwkv",
        "jamba", "biogpt", "openai-gpt", "modernbert-decoder"]  # fmt: skip


@pytest.mark.parametrize("model_type", PLACES)
def test_places_of_known_layouts(model_type):
    assert list(ffn_outputs(tiny(model_type))) == PLACES[model_type]


@pytest.mark.parametrize("model_type", [*PLACES, *MORE])
def test_what_is_added_there_reaches_the_answer_and_nothing_else_is_in_it(model_type):
    """Every place answers with one tensor (or a tuple that begins with one) as wide as the model."""
    model = tiny(model_type)
    places = ffn_outputs(model)
    assert len(places) == model.config.num_hidden_layers
    seen = []
    for place in places:
        module_at(model, place, "test").register_forward_hook(lambda _m, _i, out: seen.append(out))
    with torch.no_grad():
        model(input_ids=torch.arange(5, 11)[None], use_cache=False)
    firsts = [out[0] if isinstance(out, tuple) else out for out in seen]
    assert len(firsts) == len(places)
    assert {out.shape[-1] for out in firsts} == {model.config.hidden_size}


def test_t5_has_a_network_in_every_block_of_both_stacks():
    sizes = {"d_model": 16, "d_kv": 4, "d_ff": 24, "num_layers": 2, "num_heads": 2, "vocab_size": 50}
    model = transformers.T5ForConditionalGeneration(transformers.T5Config(**sizes))
    assert list(ffn_outputs(model)) == [
        *(f"encoder.block.{i}.layer.1.DenseReluDense" for i in range(2)),
        *(f"decoder.block.{i}.layer.2.DenseReluDense" for i in range(2)),
    ]


@pytest.mark.parametrize("model_type", ["mamba", "mamba2"])
def test_where_none_can_be_told_the_option_is_named(model_type):
    model = tiny(model_type)
    with pytest.raises(ModelError, match=r"networks of a Mamba.* option at, e\.g\. \[model.layers.0.mlp\]$"):
        ffn_outputs(model)
    assert ffn_outputs(model, ["backbone.layers.0"]) == ("backbone.layers.0",)
    with pytest.raises(ModelError, match=r"has no module 'backbone.layers.9'; did you mean 'backbone.layers.\d'"):
        ffn_outputs(model, ["backbone.layers.9"])
