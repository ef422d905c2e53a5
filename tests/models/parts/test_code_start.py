"""Where codes begin: two bundles of directions give their two means; what nobody chose begins again."""

from __future__ import annotations

import torch

from palimpsest.models.parts.code_start import drawn_vectors, revived, sphere_means


def test_two_bundles_give_their_means():
    east = torch.tensor([[1.0, 0.1], [3.0, -0.3], [2.0, 0.0]])
    north = torch.tensor([[0.1, 1.0], [0.0, 5.0]])
    found = sphere_means(torch.cat([east, north]), 2, seed=0, rounds=5)
    wanted = [east.mean(0).tolist(), north.mean(0).tolist()]
    assert sorted(found.tolist()) == sorted(wanted) or torch.allclose(found.flip(0), torch.tensor(wanted))


def test_more_centres_than_vectors_are_all_different():
    found = drawn_vectors(torch.eye(3), 8, seed=1)
    assert len({tuple(row) for row in found.tolist()}) == 8


def test_only_codes_that_nobody_chose_begin_again():
    codes, vectors = torch.full((4, 2), 9.0), torch.tensor([[4.0, 2.0]])
    found, dead = revived(codes, torch.tensor([3, 0, 1, 2]), vectors, 0.5, seed=0)
    assert dead.tolist() == [False, True, False, False]
    assert found[1].tolist() == [2.0, 1.0]
    assert torch.equal(found[~dead], codes[~dead])
