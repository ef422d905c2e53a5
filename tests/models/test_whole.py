"""What a file may hold beside the weights of its class, and what it may not."""

from __future__ import annotations

import pytest
from torch import nn

from palimpsest.errors import ModelError
from palimpsest.models.whole import check_whole, quietly


@pytest.mark.parametrize(
    "name",
    [
        "vit.pooler.dense.weight",
        "bert.pooler.dense.bias",
        "cls.seq_relationship.weight",
        "h.0.attn.bias",
        "transformer.h.3.attn.masked_bias",
        "transformer.h.3.attn.attention.bias",
        "gpt_neox.layers.0.attention.masked_bias",
        "model.layers.0.self_attn.rotary_emb.inv_freq",
        "text_model.embeddings.position_ids",
        "beit.encoder.layer.0.attention.attention.relative_position_bias.relative_position_index",
    ],
)
def test_what_no_class_reads_may_be_there(name):
    check_whole("x", nn.Linear(1, 1), [], [name])


@pytest.mark.parametrize(
    "name",
    [
        "model.layers.0.mlp.added.weight",
        "model.layers.0.added.bias",
        "attention.bias",
        "poolers.weight",
        "my_pooler.weight",
        "model.layers.2.self_attn.q_proj.weight",
        "adapter.position_ids_weight",
    ],
)
def test_what_was_trained_may_not(name):
    with pytest.raises(ModelError, match=f"model x: 1 weight of its file has no place in a Linear, e.g. {name}; "):
        check_whole("x", nn.Linear(1, 1), [], [name, "pooler.dense.weight"])


def test_what_lacks_is_told_first():
    with pytest.raises(ModelError, match="2 weights are missing or misshapen, e.g. a"):
        check_whole("x", nn.Linear(1, 1), ["b", "a"], ["c"])


def test_transformers_is_loud_again_afterwards():
    from transformers.utils import logging

    before = logging.get_verbosity()
    with quietly():
        assert logging.get_verbosity() == logging.CRITICAL
    assert logging.get_verbosity() == before
