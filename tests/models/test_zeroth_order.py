"""The estimator against its theory, a linear function and a curved one."""

from __future__ import annotations

import math

import pytest
import torch

from palimpsest.models.zeroth_order import unit_directions, with_gradient, zeroth_order_gradient

WIDTH = 256


def cosines(q: int, trials: int) -> torch.Tensor:
    """Of estimates with the true gradient of a linear function, whose differences are exact."""
    torch.manual_seed(0)
    gradient_D = torch.randn(WIDTH, dtype=torch.float64)
    found = []
    for trial in range(trials):
        along_QD = unit_directions(q, WIDTH, q, trial).double()
        moved_Q = 0.01 * along_QD @ gradient_D
        estimate = zeroth_order_gradient(torch.tensor(0.0, dtype=torch.float64), moved_Q, along_QD, 0.01)
        found.append(torch.cosine_similarity(estimate, gradient_D, dim=0))
    return torch.stack(found)


@pytest.mark.parametrize(("q", "trials"), [(1, 3000), (5, 600), (25, 150), (100, 60), (400, 30)])
def test_the_cosine_with_the_true_gradient_is_that_of_theory(q, trials):
    """In the quadratic mean, which is what the closed form says exactly of q = 1: E cos² = 1/d."""
    found = cosines(q, trials).square().mean().sqrt().item()
    assert found == pytest.approx(math.sqrt(q / (q + WIDTH - 1)), rel=0.05)


def test_one_direction_is_never_uphill_and_its_mean_cosine_is_that_of_a_coordinate():
    """The mean of |u_1| on the sphere is sqrt(2 / (pi d)) for large d, below the quadratic mean sqrt(1/d)."""
    found = cosines(1, 3000)
    assert bool((found > 0).all())
    assert found.mean().item() == pytest.approx(math.sqrt(2 / (math.pi * WIDTH)), rel=0.05)


def test_the_mean_over_all_axes_is_the_gradient_divided_by_nothing():
    """Along the d axes themselves: (1/d) Σ_j d g_j e_j = g."""
    gradient_D = torch.tensor([1.0, -2.0, 0.5])
    estimate = zeroth_order_gradient(torch.tensor(0.0), 0.5 * gradient_D, torch.eye(3), 0.5)
    assert torch.allclose(estimate, gradient_D)


def test_a_curved_function_is_met_as_beta_goes_to_nothing():
    at_D = torch.tensor([0.3, -0.2], dtype=torch.float64)
    far, near = (
        zeroth_order_gradient(
            at_D.pow(2).sum(), (at_D + beta * torch.eye(2)).pow(2).sum(1), torch.eye(2, dtype=torch.float64), beta
        )
        for beta in (0.1, 1e-6)
    )
    assert torch.allclose(near, 2 * at_D, atol=1e-5)
    assert torch.allclose(far, 2 * at_D + 0.1)  # (w + beta)² − w² = 2 w beta + beta²


def test_directions_are_a_function_of_their_key_and_of_length_one():
    one, again, other = unit_directions(3, 7, 1, 2), unit_directions(3, 7, 1, 2), unit_directions(3, 7, 1, 3)
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert torch.allclose(one.norm(dim=1), torch.ones(3))


def test_the_surrogate_has_the_value_and_exactly_the_gradient():
    weight_D = torch.randn(5, requires_grad=True)
    wanted_D = torch.randn(5)
    loss = with_gradient(torch.tensor(1.25), wanted_D, weight_D)
    loss.backward()
    assert torch.equal(weight_D.grad, wanted_D)
    assert loss.item() == pytest.approx(1.25, abs=1e-6)
