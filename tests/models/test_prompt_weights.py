"""Weights of prompts: by brute force."""

from __future__ import annotations

import itertools
import math

import torch

from palimpsest.models.prompt_weights import (
    attended_cosines,
    key_cosines,
    majority_prompts,
    nearest_prompts,
    off_orthogonal,
    orthogonal_to,
)


def cosine(one, other):
    dot = sum(a * b for a, b in zip(one, other, strict=True))
    return dot / math.sqrt(sum(a * a for a in one)) / math.sqrt(sum(b * b for b in other))


def test_cosines_and_the_nearest_by_brute_force():
    torch.manual_seed(0)
    query, keys, attention = torch.randn(3, 5), 7 * torch.randn(4, 5), torch.randn(4, 5)
    plain, attended = key_cosines(query, keys), attended_cosines(query, attention, keys)
    for b, m in itertools.product(range(3), range(4)):
        assert abs(plain[b, m].item() - cosine(query[b].tolist(), keys[m].tolist())) < 1e-6
        assert abs(attended[b, m].item() - cosine((query[b] * attention[m]).tolist(), keys[m].tolist())) < 1e-6
    for b in range(3):
        best = max(itertools.combinations(range(4), 2), key=lambda pair: sum(plain[b, list(pair)].tolist()))
        assert set(nearest_prompts(plain, 2)[b].tolist()) == set(best)


def test_queries_count_by_their_direction_alone():
    torch.manual_seed(0)
    query, keys = torch.randn(2, 6), torch.randn(3, 6)
    for scale in (1e-6, 1e4):
        assert torch.allclose(key_cosines(scale * query, keys), key_cosines(query, keys), atol=1e-6)
        found, wanted = (attended_cosines(q, keys, keys) for q in (scale * query, query))
        assert torch.allclose(found, wanted, atol=1e-6)


def test_a_zero_query_has_finite_weights_and_gradients():
    keys = torch.randn(3, 6, requires_grad=True)
    (key_cosines(torch.zeros(1, 6), keys).sum() + attended_cosines(torch.zeros(1, 6), keys, keys).sum()).backward()
    assert keys.grad.isfinite().all()


def test_the_vote_takes_what_most_rows_chose():
    chosen = torch.tensor([[0, 1], [3, 1], [3, 2], [1, 3]])
    assert majority_prompts(chosen, 4).tolist() == [[1, 3]] * 4


def test_new_vectors_are_orthogonal_to_all_earlier_ones():
    torch.manual_seed(0)
    earlier, new = torch.randn(5, 12), torch.rand(4, 12)
    made = orthogonal_to(new, earlier)
    assert (made @ earlier.T).abs().max() < 1e-5
    assert off_orthogonal(made) < 1e-12
    assert torch.equal(orthogonal_to(new, earlier), made)


def test_without_room_they_are_of_length_one():
    torch.manual_seed(0)
    made = orthogonal_to(torch.rand(3, 4), torch.randn(2, 4))
    assert torch.allclose(made.norm(dim=1), torch.ones(3))
    assert off_orthogonal(made[:2]) < 1e-12
    assert made.isfinite().all()
