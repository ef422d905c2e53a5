"""Counting in views: what is kept of a row, by brute force."""

from __future__ import annotations

import torch

from palimpsest.companions.view_counting import kept_features


def test_views_behind_a_class_own_are_zero_by_brute_force():
    features = torch.randn(4, 3, 2, generator=torch.Generator().manual_seed(0))
    own = torch.tensor([1, 4, 2, 4])
    found = kept_features(features, own, (1, 2, 4), "all").reshape(4, 3, 2)
    alone = kept_features(features, own, (1, 2, 4), "own")
    for row in range(4):
        for place, task in enumerate((1, 2, 4)):
            wanted = features[row, place] if task <= own[row] else torch.zeros(2)
            assert torch.equal(found[row, place], wanted)
            if task == own[row]:
                assert torch.equal(alone[row], features[row, place])
