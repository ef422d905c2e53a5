"""Noise into weights: its limits, its size, and that it follows from the seed."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from palimpsest.models.noised import drown, usual_rate, xavier


def new_layers() -> nn.Module:
    torch.manual_seed(0)
    return nn.ModuleDict({"wide": nn.Linear(60, 40), "norm": nn.LayerNorm(8)})


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_every_weight_by_hand(alpha):
    model, before = new_layers(), new_layers().state_dict()
    drown(model, alpha=alpha, beta=0.5, seed=7)
    for name, weight in model.state_dict().items():
        noise = 0.5 * xavier(name, weight, 7)
        assert torch.allclose(weight, (1 - alpha) * before[name] + alpha * noise, atol=1e-7)
    assert all(torch.equal(model.state_dict()[n], before[n]) for n in before) == (alpha == 0)
    assert bool(model.state_dict()["norm.weight"].any()) == (alpha < 1)


def test_the_noise_is_uniform_up_to_the_bound_of_xavier():
    noise, bound = xavier("w", torch.zeros(40, 60), 0), math.sqrt(6 / 100)
    assert bound * 0.99 < noise.abs().max().item() <= bound
    assert noise.square().mean().item() == pytest.approx(bound**2 / 3, rel=0.05)
    assert not torch.equal(noise, xavier("w", torch.zeros(40, 60), 1))


def test_what_is_frozen_is_left_alone():
    model = new_layers()
    model["wide"].requires_grad_(False)
    drown(model, alpha=1.0, beta=1.0, seed=0)
    assert torch.equal(model["wide"].weight, new_layers()["wide"].weight)
    assert usual_rate(nn.Linear(2, 2).requires_grad_(False)) == pytest.approx(5e-4)
