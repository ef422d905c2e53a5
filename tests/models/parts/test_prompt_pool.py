"""A pool of prompts: the same as putting the chosen ones before the example by hand."""

from __future__ import annotations

import pytest
import torch
from tests.models.small_encoders import alone, encoder, inputs, said, with_prompts

from palimpsest.errors import ModelError, PlanError
from palimpsest.models import parts
from palimpsest.models.parts.prompting import query_of

OPTIONS = {"prompts": 4, "length": 2, "chosen": 2}


@pytest.mark.parametrize("reads", ["prompts", "tokens"])
def test_of_a_vit_it_is_by_hand(reads):
    model, given = encoder("vit"), inputs("vit")
    with torch.no_grad():
        query = model.vit(**given).last_hidden_state[:, 0]
        (pool,) = with_prompts(model, "l2p", {**OPTIONS, "reads": reads})
        found = said(model, given)
        with parts.off(model):
            for row in range(len(query)):
                cos = [float(torch.cosine_similarity(query[row], key, dim=0)) for key in pool.key_MD]
                best = sorted(range(4), key=lambda m: -cos[m])[:2]
                hidden = torch.cat([pool.prompt_MPD[best].flatten(0, 1), model.vit.embeddings(**alone(given, row))[0]])
                hidden = hidden[None]
                for block in model.vit.layers:
                    hidden = block(hidden, None)
                hidden = model.vit.layernorm(hidden)[0]
                wanted = model.classifier(hidden[:4].mean(0) if reads == "prompts" else hidden[4])
                assert torch.allclose(found[row], wanted, atol=1e-5)


def test_of_bert_padding_changes_nothing_and_prompts_are_seen():
    model, given = encoder("bert"), inputs("bert")
    plain = said(model, given)
    with_prompts(model, "l2p", OPTIONS)
    found = said(model, given)
    assert (found - plain).abs().max() > 1e-2
    for row in range(4):
        assert torch.allclose(said(model, alone(given, row))[0], found[row], atol=1e-5)


def test_the_query_does_not_know_the_prompts_nor_the_mode():
    model, given = encoder("vit", hidden_dropout_prob=0.5), inputs("vit")
    before = query_of(model, given, "first")
    with_prompts(model, "l2p", OPTIONS)
    model.train()
    state = torch.get_rng_state()
    assert torch.equal(query_of(model, given, "first"), before)
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training
    assert model.vit.layers[0].training


def test_the_last_token_that_is_no_padding_is_the_query_of_a_decoder():
    model, given = encoder("llama"), inputs("llama")
    query = query_of(model, given, "last")
    for row in range(4):
        hidden = model.model(**alone(given, row)).last_hidden_state[0, -1]
        assert torch.allclose(query[row], hidden, atol=1e-5)


@pytest.mark.parametrize("by_batch", [False, True])
def test_rows_beside_it_matter_only_where_they_vote(by_batch):
    model, given = encoder("vit"), inputs("vit", rows=8)
    (pool,) = with_prompts(model, "l2p", {**OPTIONS, "by_batch": by_batch})
    with torch.no_grad():
        query_BD = query_of(model, given, "first")
        pool.key_MD.copy_((query_BD - query_BD.mean(0))[:4])  # rows that choose differently
    apart = torch.cat([said(model, alone(given, row)) if row < 4 else said(
        model, {"pixel_values": given["pixel_values"][row : row + 1]}) for row in range(8)])  # fmt: skip
    assert torch.allclose(apart, said(model, given), atol=1e-5) is not by_batch


def test_chosen_prompts_alone_move_and_keys_by_the_pull():
    model, given = encoder("vit"), inputs("vit", rows=1)
    (pool,) = with_prompts(model, "l2p", OPTIONS)
    model(**given).logits.sum().backward()
    chosen = pool.weight_BM[0].bool()
    assert [bool(g.any()) for g in pool.prompt_MPD.grad] == chosen.tolist()
    assert not pool.key_MD.grad.any()
    model(**given)
    pool.pull().sum().backward()
    assert [bool(g.any()) for g in pool.key_MD.grad] == chosen.tolist()


def test_gradient_checkpointing_changes_no_gradient():
    found = []
    for saves in (False, True):
        model, given = encoder("vit"), inputs("vit")
        (pool,) = with_prompts(model, "l2p", OPTIONS)
        if saves:
            model.activation_checkpointing_enable()
        model.train()
        model(**given).logits.square().sum().backward()
        found.append(pool.prompt_MPD.grad.clone())
    assert torch.allclose(*found, atol=1e-6)


def test_what_cannot_be_is_refused():
    with pytest.raises(PlanError, match=r"l2p.chosen = 5 of a pool of 2; accepted: at most all"):
        with_prompts(encoder("vit"), "l2p", {"prompts": 2})
    with pytest.raises(ModelError, match=r"sees nothing of it .* accepted: --set l2p.reads=tokens"):
        with_prompts(encoder("llama"), "l2p")
    model = encoder("vit")
    with_prompts(model, "l2p", OPTIONS)
    with pytest.raises(PlanError, match=r"has a pool of 4 prompts of 2 tokens, 2 chosen; accepted: the same options"):
        with_prompts(model, "l2p")
    decoder = encoder("llama")
    cache = decoder.model(input_ids=torch.tensor([[5, 6]]), use_cache=True).past_key_values
    with_prompts(decoder, "l2p", {"reads": "tokens"})
    with pytest.raises(ModelError, match="stands for its beginning; use no cache"):
        decoder(input_ids=torch.tensor([[7]]), past_key_values=cache)
