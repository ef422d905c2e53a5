"""The last linear layer of each block's feed-forward network, in models of several makes."""

import pytest
import torch
from torch import nn
from transformers import (
    BertConfig,
    BertModel,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

from palimpsest.errors import ModelError
from palimpsest.models.places import ffn_outputs, linear_widths

SMALL = {"vocab_size": 32, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}


def test_each_make_is_read_right():
    llama = LlamaForCausalLM(LlamaConfig(**SMALL, intermediate_size=24))
    assert ffn_outputs(llama) == ("model.layers.0.mlp.down_proj", "model.layers.1.mlp.down_proj")
    gpt2 = GPT2LMHeadModel(GPT2Config(vocab_size=32, n_embd=16, n_layer=2, n_head=2))
    assert ffn_outputs(gpt2)[1] == "transformer.h.1.mlp.c_proj"
    neox = GPTNeoXForCausalLM(GPTNeoXConfig(**SMALL, intermediate_size=24))
    assert ffn_outputs(neox)[0] == "gpt_neox.layers.0.mlp.dense_4h_to_h"
    opt = OPTForCausalLM(OPTConfig(**SMALL, ffn_dim=24, word_embed_proj_dim=16))
    assert ffn_outputs(opt)[0] == "model.decoder.layers.0.fc2"


def test_encoders_have_places_too():
    bert = BertModel(BertConfig(**SMALL, intermediate_size=24))
    assert ffn_outputs(bert) == ("encoder.layer.0.output.dense", "encoder.layer.1.output.dense")
    t5 = T5ForConditionalGeneration(T5Config(vocab_size=32, d_model=16, d_ff=24, num_layers=1, num_heads=2, d_kv=8))
    assert ffn_outputs(t5) == ("encoder.block.0.layer.1.DenseReluDense.wo", "decoder.block.0.layer.2.DenseReluDense.wo")


def test_a_net_without_blocks_is_refused():
    with pytest.raises(ModelError, match="Sequential has no block whose feed-forward network ends in a linear layer"):
        ffn_outputs(nn.Sequential(nn.Conv2d(1, 2, 3), nn.Linear(2, 2)))


def test_widths_of_transposed_layers():
    gpt2 = GPT2LMHeadModel(GPT2Config(vocab_size=32, n_embd=16, n_layer=1, n_head=2))
    layer = gpt2.get_submodule("transformer.h.0.mlp.c_proj")
    width_in, width_out = linear_widths(layer)
    assert layer(torch.zeros(1, width_in)).shape == (1, width_out) == (1, 16)
    assert linear_widths(nn.LayerNorm(3)) is None
