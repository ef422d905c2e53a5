"""The Gaussian head: the equation by hand, and its limit."""

from __future__ import annotations

import pytest
import torch

from palimpsest.models.parts.gaussian_head import GaussianHead, GaussianHeadConfig


def fitted(shrinkage: float) -> GaussianHead:
    head = GaussianHead(GaussianHeadConfig(at="head", width=2, classes=2, scale=1.0, shrinkage=shrinkage))
    covariance = torch.tensor([[[4.0, 1.0], [1.0, 1.0]], [[1.0, 0.0], [0.0, 1.0]]]).double()
    head.fit(torch.tensor([[3.0, 0.0], [0.0, 2.0]]).double(), covariance, torch.tensor([True, True]))
    return head


def test_by_hand() -> None:
    """Hardly shrunk: correlation 1/2 of class 0, whose inverse is 4/3 · [[1, -1/2], [-1/2, 1]]; off = (-1, 1)."""
    said = fitted(1e-9).scores(torch.tensor([0.0, 5.0]))
    assert said.tolist() == pytest.approx([-4.0, 0.0], abs=1e-5)


def test_much_shrinkage_is_the_plain_distance() -> None:
    assert fitted(1e9).scores(torch.tensor([0.0, 5.0])).tolist() == pytest.approx([-2.0, 0.0], abs=1e-5)
