"""What is told of tokens without a model: sums over words, pairs and triples, and nothing of later ones."""

from __future__ import annotations

import torch

from palimpsest.models.token_reader import TokenReader, hashed


def test_it_looks_at_a_token_and_the_two_before_it_and_at_no_other():
    reader, tokens = TokenReader(64), torch.randint(0, 500, (1, 12), generator=torch.Generator().manual_seed(0))
    plain = reader(tokens)
    assert set(plain.abs().sum(-1).unique().tolist()) <= {1.0, 3.0}, "three signed ones, of which two may cancel"
    for place in range(12):
        other = tokens.clone()
        other[0, place] = (other[0, place] + 1) % 500
        changed = (reader(other) != plain).any(-1)[0].nonzero().flatten().tolist()
        assert set(changed) <= {place, place + 1, place + 2}
        assert place in changed


def test_hashes_of_all_pairs_of_a_small_vocabulary_hardly_meet():
    """64 x 64 pairs in 2^31 places: 4096² / 2^32 = 0.004 meetings are expected."""
    first, second = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    pairs = torch.stack([first.flatten(), second.flatten()], 1)
    assert len(hashed(pairs, 2)[:, 1].unique()) == 4096


def test_both_signs_and_all_places_are_used_alike():
    found = TokenReader(8)(torch.arange(4000)[:, None])[:, 0]
    hit = 4000 * (1 - (7 / 8) ** 3 - 3 * (1 / 64) * (7 / 8) / 2)  # by one of three, but where two of them cancel
    assert ((found != 0).sum(0) - hit).abs().max() < 150, "5 standard deviations of 4000 hits and misses"
    assert (found.sum(0).abs() < 300).all(), "5 standard deviations of 1500 signs are 194 for words, and their pairs"
