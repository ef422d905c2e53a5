"""Retrieved adapters: retrieval and answer by brute force."""

from __future__ import annotations

import math

import pytest
import torch

from palimpsest.models.parts.retrieved_adapters import RetrievedAdapters, RetrievedAdaptersConfig, retrieved


@pytest.mark.parametrize("rounds", [0, 1, 2, 4])
def test_retrieval_by_brute_force(rounds):
    """Row by row, stopping where the view names itself, as the paper does."""
    said = torch.randn(50, 3, 5, generator=torch.Generator().manual_seed(0))
    view_of = [0, 2, 1, 1, 2]
    found = retrieved(said, torch.tensor(view_of), 2, rounds)
    for row in range(50):
        view = 2
        for _ in range(rounds):
            scores = said[row, view].tolist()
            named = view_of[scores.index(max(scores))]
            if named == view:
                break
            view = named
        assert found[row] == view
    assert rounds == 0 or len(set(found.tolist())) > 1


def test_answer_by_brute_force():
    """Softmax of the classes that are there, in the newest and in the retrieved view, averaged."""
    torch.manual_seed(0)
    head = RetrievedAdapters(RetrievedAdaptersConfig(at="head", width=4, classes=3, tasks=(1, 4)))
    head.class_rows.data = torch.randn(3, 4)
    head.present_C.copy_(torch.tensor([True, False, True]))
    head.own_C.copy_(torch.tensor([1, 0, 4]))
    features = torch.randn(20, 2, 4)
    said = head.requires_grad_(False).answer(features).exp()
    for row in range(20):
        p = [_softmax([16 * _cosine(features[row, v], head.class_rows[c]) for c in (0, 2)]) for v in (0, 1)]
        view = 1
        for _ in range(4):
            view = 0 if p[view][0] > p[view][1] else 1
        for place, c in enumerate((0, 2)):
            assert said[row, c].item() == pytest.approx((p[1][place] + p[view][place]) / 2, abs=1e-5)


def _cosine(a, b):
    return float((a * b).sum() / (a.norm() * b.norm()))


def _softmax(values):
    powers = [math.exp(value) for value in values]
    return [power / sum(powers) for power in powers]
