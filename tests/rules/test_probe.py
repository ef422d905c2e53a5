"""ρ on a quadratic: ‖η H d‖ / ‖d‖ for a fast step d."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from palimpsest.rules.probe import Probe

HESSIAN = torch.tensor([[4.0, 1.0], [1.0, 0.5]])
STEP = torch.tensor([0.3, -0.2])


class Point(nn.Module):
    """Two weights on ½ θᵀ H θ."""

    def __init__(self) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.tensor([1.0, 2.0]))

    def descend_nothing(self) -> None:
        self.zero_grad()
        (0.5 * self.theta @ HESSIAN @ self.theta).backward()


def test_rho_is_the_curvature_along_the_step():
    model, probe = Point(), Probe()
    model.descend_nothing()
    probe.open(model)
    for part in (0.25, 0.75):  # two fast steps add up
        with probe.fast(model), torch.no_grad():
            model.theta += part * STEP
    model.descend_nothing()
    probe.close(model)
    expected = 0.1 * (HESSIAN @ STEP).norm() / STEP.norm()
    assert probe.read(0.1) == pytest.approx(expected.item(), rel=1e-5)
    assert probe.read(0.1) is None


def test_nothing_is_kept_while_it_is_closed():
    model, probe = Point(), Probe()
    with probe.fast(model), torch.no_grad():
        model.theta += STEP
    model.descend_nothing()
    probe.close(model)
    assert probe.read(0.1) is None
