"""Classes as normal distributions: in loops, by their own samples, and where nothing varies."""

from __future__ import annotations

import math

import pytest
import torch

from palimpsest.models.class_gaussians import ClassGaussian, GaussianDraws, estimated, evened_logits, root_of

LIKE = torch.zeros(1)


def gaussian(mean: list[float], covariance: list[list[float]], task: int = 0) -> ClassGaussian:
    wide = torch.float64
    return ClassGaussian(torch.tensor(mean, dtype=wide), torch.tensor(covariance, dtype=wide), task)


def test_mean_and_covariance_in_loops():
    torch.manual_seed(0)
    features_ND, label_N = torch.randn(9, 3), torch.tensor([0, 2, 2, 0, 2, 0, 2, 2, 0])
    found = estimated(features_ND, label_N, task=4)
    assert list(found) == [0, 2]
    for label, one in found.items():
        rows = [row.tolist() for row, own in zip(features_ND, label_N, strict=True) if own == label]
        mean = [sum(row[d] for row in rows) / len(rows) for d in range(3)]
        assert one.mean_D.tolist() == pytest.approx(mean, abs=1e-6)
        for d in range(3):
            for e in range(3):
                products = [(row[d] - mean[d]) * (row[e] - mean[e]) for row in rows]
                assert one.covariance_DD[d, e].item() == pytest.approx(sum(products) / (len(rows) - 1), abs=1e-6)
        assert one.task == 4


@pytest.mark.parametrize("covariance", [[[2.0, 0.6], [0.6, 0.5]], [[1.0, 1.0], [1.0, 1.0]], [[0.0, 0.0], [0.0, 0.0]]])
def test_a_root_gives_the_covariance_back(covariance):
    wanted = torch.tensor(covariance, dtype=torch.float64)
    root = root_of(wanted, ridge=0.0)
    assert torch.allclose(root @ root.T, wanted, atol=1e-7)


def test_what_is_drawn_has_the_moments_of_its_class():
    known = {1: gaussian([1.0, -2.0], [[2.0, 0.6], [0.6, 0.5]]), 5: gaussian([4.0, 0.0], [[0.1, 0.0], [0.0, 0.1]])}
    draws = GaussianDraws(known, ridge=0.0, shrink=0.0, like=LIKE)
    noise_KD = torch.randn(40000, 2, generator=torch.Generator().manual_seed(0))
    which_K = torch.arange(40000) % 2
    drawn_KD = draws(which_K, noise_KD)
    assert draws.classes == (1, 5)
    found = estimated(drawn_KD[which_K == 0], torch.zeros(20000, dtype=torch.long), task=0)[0]
    assert torch.allclose(found.mean_D, known[1].mean_D, atol=0.03)
    assert torch.allclose(found.covariance_DD, known[1].covariance_DD, atol=0.05)


def test_without_covariance_every_draw_is_the_mean():
    draws = GaussianDraws({0: gaussian([3.0, 4.0], [[0.0, 0.0]] * 2)}, ridge=0.0, shrink=0.0, like=LIKE)
    assert draws(torch.zeros(5, dtype=torch.long), torch.randn(5, 2)).tolist() == [[3.0, 4.0]] * 5


def test_means_of_early_tasks_are_drawn_to_zero():
    """Of three tasks 0.9 + 0.1·(t + 1)/3: 14/15, 29/30, 1."""
    known = {task: gaussian([30.0], [[0.0]], task) for task in range(3)}
    draws = GaussianDraws(known, ridge=0.0, shrink=0.1, like=LIKE)
    assert draws(torch.arange(3), torch.zeros(3, 1)).flatten().tolist() == pytest.approx([28.0, 29.0, 30.0])


def test_logits_are_evened_by_the_mean_norm_of_the_tasks():
    """Norms 5, 12 and 1: mean 6, over 0.1 of it."""
    logits_KC = torch.tensor([[3.0, 12.0, 4.0, 1.0]])
    found = evened_logits(logits_KC, (0, 1, 0, 2), 0.1)
    assert torch.allclose(found, logits_KC / 0.6, atol=1e-4)
    assert torch.allclose(found, evened_logits(100 * logits_KC, (0, 1, 0, 2), 0.1), atol=1e-4)


def test_logits_of_zero_have_a_gradient_that_is_a_number():
    logits_KC = torch.zeros(1, 2, requires_grad=True)
    evened_logits(logits_KC, (0, 1), 0.1).log_softmax(1)[0, 0].backward()
    assert math.isfinite(logits_KC.grad.sum())
