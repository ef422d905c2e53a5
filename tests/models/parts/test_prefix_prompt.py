"""Prefix prompts: by hand in one block; tasks compete by their keys; what is frozen stays."""

from __future__ import annotations

import pytest
import torch
from tests.models.small_encoders import alone, encoder, inputs, said, with_prompts

from palimpsest.errors import ModelError, PlanError
from palimpsest.models import parts
from palimpsest.models.load import load
from palimpsest.models.parts.prompting import query_of
from palimpsest.models.parts.with_parts import write_version


def attention_by_hand(model, block, hidden, prefix):
    """What a ViT's block makes of one row, with a prefix (2, P, W) before its keys and values."""
    attention, normed = block.attention, block.layernorm_before(hidden)
    keys = torch.cat([prefix[0], attention.k_proj(normed)])
    values = torch.cat([prefix[1], attention.v_proj(normed)])
    heads = [t.view(len(t), 4, 8).transpose(0, 1) for t in (attention.q_proj(normed), keys, values)]
    scores = heads[0] @ heads[1].transpose(1, 2) / 8**0.5
    mixed = (scores.softmax(-1) @ heads[2]).transpose(0, 1).flatten(1)
    hidden = hidden + attention.o_proj(mixed)
    return hidden + block.mlp(block.layernorm_after(hidden))


def test_of_a_vit_it_is_by_hand():
    model, given = encoder("vit"), inputs("vit")
    shared, first = with_prompts(model, "dual_prompt", seed=1)
    _, second = with_prompts(model, "dual_prompt", seed=2)
    found = said(model, given)
    chosen = []
    with torch.no_grad(), parts.off(model):
        query = model.vit(**given).last_hidden_state[:, 0]
        for row in range(4):
            near = [float(torch.cosine_similarity(query[row], part.key_D, dim=0)) for part in (first, second)]
            own = (first, second)[near[1] > near[0]]
            chosen.append(near[1] > near[0])
            prefixes = [shared.prompt_LM2PW[0, 0], shared.prompt_LM2PW[1, 0], own.prompt_LM2PW[0, 0]]
            hidden = model.vit.embeddings(**alone(given, row))[0]
            for block, prefix in zip(model.vit.layers, prefixes, strict=True):
                hidden = attention_by_hand(model, block, hidden, prefix)
            assert torch.allclose(found[row], model.classifier(model.vit.layernorm(hidden)[0]), atol=1e-5)
    assert second.weight_BM[:, 0].bool().tolist() == chosen


@pytest.mark.parametrize("layout", ["bert", "llama", "deit"])
def test_padding_changes_nothing(layout):
    model, given = encoder(layout), inputs(layout)
    plain = said(model, given)
    with_prompts(model, "dual_prompt")
    found = said(model, given)
    assert (found - plain).abs().max() > 1e-3
    for row in range(4):
        assert torch.allclose(said(model, alone(given, row))[0], found[row], atol=1e-5)


def test_the_task_that_is_learned_is_given_to_all_its_rows():
    model, given = encoder("vit"), inputs("vit")
    with_prompts(model, "dual_prompt", seed=1)
    shared, own = with_prompts(model, "dual_prompt", seed=2)
    with torch.no_grad():
        own.key_D.copy_(-model.vit(**given).last_hidden_state[:, 0].mean(0))
    model.train()
    said(model, given)
    assert own.weight_BM.eq(1).all()
    model.eval()
    said(model, given)
    assert own.weight_BM.eq(0).all()
    assert shared.weight_BM is None


def test_without_a_tasks_part_its_rows_take_the_nearest_of_the_others(tmp_path):
    model, given = encoder("bert"), inputs("bert")
    shared, first = with_prompts(model, "dual_prompt", seed=1)
    alone_then = said(model, given)
    state = {name: tensor.clone() for name, tensor in shared.state_dict().items()}
    _, second = with_prompts(model, "dual_prompt", seed=2)
    shared.load_state_dict(state)
    with torch.no_grad():
        second.key_D.copy_(query_of(model, given, "first")[0])
    assert not torch.equal(said(model, given), alone_then)
    write_version(model, tmp_path / "both")
    again = load(tmp_path / "both", tokenizer_needed=False).model
    assert torch.equal(said(again, given), said(model, given))
    found = parts.parts_of(again)
    assert [part.config.matched for part in found] == [True, False, True]  # the shared one went on, behind the first
    assert torch.equal(found[0].key_D, first.key_D)
    assert torch.equal(found[2].key_D, second.key_D)
    parts.detach(again, found[2:])
    assert torch.equal(said(again, given), alone_then)


def test_blocks_that_are_not_there_and_other_lengths_are_refused():
    with pytest.raises(ModelError, match=r"has blocks 0 to 2, and none of \[-1\]"):
        with_prompts(encoder("vit"), "dual_prompt", {"own_layers": [-1]})
    model = encoder("vit")
    with_prompts(model, "dual_prompt", {"length": 3})
    with pytest.raises(PlanError, match="earlier tasks have length 3 .* and new ones 5 .*the same layers and length"):
        with_prompts(model, "dual_prompt")
    with pytest.raises(ModelError, match="has no blocks with an attention that takes prompts; accepted: .*ViT"):
        with_prompts(torch.nn.Sequential(torch.nn.Linear(2, 2)), "dual_prompt")
