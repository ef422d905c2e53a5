"""Corrupted embeddings: by hand, and no change where there is no strength."""

from __future__ import annotations

import torch

from palimpsest.models.parts import attach
from palimpsest.models.parts.corrupt_embeddings import CorruptEmbeddings, CorruptEmbeddingsConfig

IDS = torch.arange(12).reshape(2, 6)
PLACE = "model.embed_tokens"


def noisy(model, **options) -> CorruptEmbeddings:
    part = CorruptEmbeddings(CorruptEmbeddingsConfig(at=PLACE, width=32, **options))
    attach(model, [part])
    return part


def said(model) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=IDS).logits


def test_without_strength_or_without_firing_it_is_the_model_to_the_bit(tiny_llama):
    plain = said(tiny_llama)
    part = noisy(tiny_llama)
    part.sigma.fill_(0.0)
    assert torch.equal(said(tiny_llama), plain)
    part.sigma.fill_(1.0)
    part.threshold.fill_(1e9)
    assert torch.equal(said(tiny_llama), plain)


def test_it_is_the_model_with_embeddings_that_were_corrupted_by_hand(tiny_llama):
    part = noisy(tiny_llama, least=3, rows=4, seed=1)
    part.sigma.fill_(0.5)
    found = said(tiny_llama)
    with torch.no_grad():
        by_hand = tiny_llama.model.embed_tokens.weight[IDS].clone()
        for t in (2, 3, 4, 5):
            by_hand[:, t] += 0.5 * part.noise_KD[(t + 1) % 4]
        part.times_off = 1
        wanted = tiny_llama(inputs_embeds=by_hand).logits
    assert torch.equal(found, wanted)


def test_the_noise_is_that_of_its_seed():
    one, same, other = (
        CorruptEmbeddings(CorruptEmbeddingsConfig(at=PLACE, width=8, seed=s)).noise_KD for s in (1, 1, 2)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
