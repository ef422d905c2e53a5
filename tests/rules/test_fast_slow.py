"""T1 to T4: fast and slow weights on quadratics, against the closed forms of the docstring of the file under test.

T1 data: H = [[4, 1], [1, 0.5]], r = (1, -2), g = (1, 1), eta = 0.1, beta = 0.01; H^-1 g = (-0.5, 3).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from palimpsest.rules.fast_slow import gradients, kappa, outer_step, rho, slow_step, snapshot
from palimpsest.rules.saliency_bits import SaliencyMask
from palimpsest.rules.schedule import ascent_scale

HESSIAN = torch.tensor([[4.0, 1.0], [1.0, 0.5]], dtype=torch.float64)
MINIMISER = torch.tensor([1.0, -2.0], dtype=torch.float64)
GRADIENT = torch.tensor([1.0, 1.0], dtype=torch.float64)
ETA, BETA = 0.1, 0.01


class Point(nn.Module):
    """A model whose only parameter is a vector."""

    def __init__(self, theta: Tensor) -> None:
        super().__init__()
        self.theta = nn.Parameter(theta.clone())

    def quadratic(self, hessian: Tensor = HESSIAN, minimiser: Tensor = MINIMISER) -> Tensor:
        away = self.theta - minimiser
        return 0.5 * away @ hessian @ away

    def linear(self, gradient: Tensor = GRADIENT) -> Tensor:
        return gradient @ self.theta


def repeat(
    model: Point, fast: Callable[[], Tensor], repair: Callable[[], Tensor], count: int, **sizes: float
) -> Tensor:
    for _ in range(count):
        outer_step(model, fast, repair, **sizes)
    return model.theta.detach()


@pytest.mark.parametrize(("inner_steps", "expected"), [(1, (-0.005, -0.0085)), (5, (0.000885, -0.006288))])
@pytest.mark.parametrize("alpha_s", [1.0, 0.5, 0.1])
def test_t1_one_outer_step(inner_steps: int, expected: tuple[float, float], alpha_s: float) -> None:
    model = Point(MINIMISER)
    outer_step(model, model.linear, model.quadratic, beta=BETA, eta=ETA, inner_steps=inner_steps, alpha_s=alpha_s)
    moved = model.theta.detach() - MINIMISER
    assert moved.tolist() == pytest.approx([alpha_s * value for value in expected], rel=1e-12, abs=alpha_s * 5e-7)
    filtered = torch.linalg.matrix_power(torch.eye(2, dtype=torch.float64) - ETA * HESSIAN, inner_steps)
    assert torch.allclose(moved, -alpha_s * BETA * filtered @ GRADIENT, atol=1e-15)


@pytest.mark.parametrize(("inner_steps", "expected"), [(1, (0.06, -0.29)), (5, (0.013686, -0.054684))])
@pytest.mark.parametrize("alpha_s", [1.0, 0.5, 0.1])
def test_t1_fixed_point_does_not_depend_on_the_slow_step(
    inner_steps: int, expected: tuple[float, float], alpha_s: float
) -> None:
    eye = torch.eye(2, dtype=torch.float64)
    filtered = torch.linalg.matrix_power(eye - ETA * HESSIAN, inner_steps)
    away = -BETA * torch.linalg.inv(torch.linalg.inv(filtered) - eye) @ GRADIENT
    assert away.tolist() == pytest.approx(expected, abs=5e-7)
    model = Point(MINIMISER + away)
    sizes = {"beta": BETA, "eta": ETA, "inner_steps": inner_steps, "alpha_s": alpha_s}
    assert torch.allclose(repeat(model, model.linear, model.quadratic, 3, **sizes), MINIMISER + away, atol=1e-14)


def test_t1_repetition_reaches_the_fixed_point() -> None:
    model = Point(MINIMISER)
    reached = repeat(model, model.linear, model.quadratic, 250, beta=BETA, eta=ETA, inner_steps=5)
    assert (reached - MINIMISER).tolist() == pytest.approx((0.013686, -0.054684), abs=5e-7)


def test_t1_mask_filters_the_fast_gradient_alone() -> None:
    model = Point(MINIMISER)
    mask = SaliencyMask.of([("theta", torch.tensor([True, False]))])
    outer_step(model, model.linear, model.quadratic, beta=BETA, eta=ETA, mask=mask)
    # A M g with A = I - 0.1 H: (0.6, -0.1); the masked weight moves by the repair only
    assert (model.theta.detach() - MINIMISER).tolist() == pytest.approx((-0.006, 0.001), rel=1e-12)


def scalar_step(model: Point, scale: float, *, learn: float = 0.0, target: float = 0.0) -> None:
    """T2: L_R = theta^2, L_U = (theta - 1)^2 / 2, L_L = learn / 2 (theta - target)^2."""

    def fast() -> Tensor:
        return (learn / 2 * (model.theta - target) ** 2 - scale / 2 * (model.theta - 1) ** 2).sum()

    def repair() -> Tensor:
        return (model.theta**2).sum()

    outer_step(model, fast, repair, beta=0.05, eta=0.1)


def test_t2_constant_ascent_forgets_too_much() -> None:
    # theta = q beta (-u c) / (eta h - q beta u), q = 1 - eta h = 0.8: -0.04 / (0.2 - 0.04)
    model = Point(torch.tensor([1 / 3], dtype=torch.float64))
    for _ in range(200):
        scalar_step(model, 1.0)
    assert model.theta.item() == pytest.approx(-0.25, abs=1e-12)


def test_t2_annealed_ascent_ends_at_the_oracle() -> None:
    model = Point(torch.tensor([1 / 3], dtype=torch.float64))
    visited = []
    for step in range(500):
        scalar_step(model, ascent_scale("cosine", step, 500))
        visited.append(model.theta.item())
    assert min(visited) < -0.2  # it did over-forget on the way
    assert model.theta.item() == pytest.approx(0.0, abs=1e-4)


def test_t2_with_learning_in_the_fast_step() -> None:
    # [eta h r + q beta (l b - u c)] / [eta h + q beta (l - u)] with h = 2, r = 0, l = 3, b = 2, u = c = 1
    model = Point(torch.tensor([1 / 3], dtype=torch.float64))
    for _ in range(200):
        scalar_step(model, 1.0, learn=3.0, target=2.0)
    assert model.theta.item() == pytest.approx(0.8 * 0.05 * (3 * 2 - 1) / (0.2 + 0.8 * 0.05 * (3 - 1)), abs=1e-12)


def test_t3_alternating_minus_joint_step() -> None:
    draw = torch.Generator().manual_seed(0)
    root, minimiser, gradient, start = torch.randn(4, 6, 6, generator=draw, dtype=torch.float64).unbind()
    hessian, minimiser, gradient, start = root @ root.T, minimiser[0], gradient[0], start[0]
    kept = torch.tensor([True, False, True, True, False, True])
    model = Point(start)
    outer_step(
        model,
        lambda: model.linear(gradient),
        lambda: model.quadratic(hessian, minimiser),
        beta=0.2,
        eta=0.05,
        mask=SaliencyMask.of([("theta", kept)]),
    )
    joint = Point(start)
    optimizer = torch.optim.SGD(joint.parameters(), lr=1.0)
    (0.2 * joint.linear(gradient * kept) + 0.05 * joint.quadratic(hessian, minimiser)).backward()
    optimizer.step()
    difference = model.theta.detach() - joint.theta.detach()
    assert torch.allclose(difference, 0.05 * 0.2 * hessian @ (kept * gradient), rtol=0, atol=1e-14)
    assert difference.norm() > 0.01


def test_t4_proximal_repair_tends_to_the_inverse_hessian() -> None:
    softness = 1000.0  # the c of L_R + |theta - theta_f|^2 / 2c
    away = MINIMISER - BETA * GRADIENT
    model = Point(MINIMISER)
    outer_step(
        model,
        model.linear,
        lambda: model.quadratic() + ((model.theta - away) ** 2).sum() / (2 * softness),
        beta=BETA,
        eta=0.4,
        inner_steps=400,
    )
    limit = -BETA / softness * torch.tensor([-0.5, 3.0], dtype=torch.float64)
    ratio = (model.theta.detach() - MINIMISER) / limit
    assert ratio.tolist() == pytest.approx((0.994, 0.996), abs=5e-4)


class Normed(nn.Module):
    """A model with everything that a slow step has to treat apart."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(2)
        self.frozen = nn.Parameter(torch.ones(2), requires_grad=False)
        self.register_buffer("constant", torch.ones(2), persistent=False)


@pytest.mark.parametrize("alpha_s", [0.0, 0.3, 1.0])
def test_slow_step_takes_the_running_statistics_along(alpha_s: float) -> None:
    model = Normed().train()
    start = snapshot(model)
    assert set(start) == {"norm.weight", "norm.bias", "norm.running_mean", "norm.running_var"}
    model.norm(torch.tensor([[1.0, 10.0], [3.0, 30.0]]))
    with torch.no_grad():
        model.norm.bias.add_(torch.tensor([1.0, 0.1]))
    fast = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    slow_step(model, start, alpha_s)
    for name, first in start.items():
        expected = first + alpha_s * (fast[name] - first)
        assert torch.allclose(model.state_dict()[name], expected, rtol=1e-6)
        if alpha_s in (0.0, 1.0):
            assert torch.equal(model.state_dict()[name], first if alpha_s == 0.0 else fast[name])
    assert model.norm.num_batches_tracked.item() == 1
    assert model.norm.running_mean.tolist() == pytest.approx([alpha_s * 0.2, alpha_s * 2.0])


def test_a_snapshot_is_a_copy() -> None:
    model = Point(MINIMISER)
    start = snapshot(model)
    with torch.no_grad():
        model.theta.zero_()
    assert torch.equal(start["theta"], MINIMISER)


def test_kappa_by_hand() -> None:
    assert kappa(beta=0.05, scale=0.5, eta=0.1, inner_steps=5) == pytest.approx(0.05)


def repair_gradient(model: Point) -> dict[str, Tensor]:
    model.zero_grad()
    model.quadratic().backward()
    return gradients(model)


def test_rho_is_the_curvature_along_the_fast_step() -> None:
    model = Point(torch.tensor([0.3, 0.4], dtype=torch.float64))
    before = repair_gradient(model)
    with torch.no_grad():
        model.theta.sub_(BETA * GRADIENT)
    after = repair_gradient(model)
    # ||eta H g|| / ||g||, H g = (5, 1.5)
    expected = 0.1 * math.hypot(5, 1.5) / math.sqrt(2)
    assert rho(before, after, {"theta": GRADIENT}, eta=ETA, beta=BETA) == pytest.approx(expected, rel=1e-5)
    assert rho(before, after, {"theta": BETA * GRADIENT}, eta=ETA, beta=1.0) == pytest.approx(expected, rel=1e-5)


def test_rho_of_a_fast_step_that_did_not_move_is_unscored() -> None:
    gradient = {"theta": GRADIENT}
    assert rho(gradient, gradient, {"theta": torch.zeros(2)}, eta=ETA, beta=BETA) is None


def test_gradients_are_copies_and_may_be_absent() -> None:
    model = Point(MINIMISER)
    assert gradients(model) == {}
    found = repair_gradient(Point(MINIMISER + 1))
    assert found["theta"].tolist() == pytest.approx((5.0, 1.5))
    model.linear().backward()
    held = gradients(model)
    model.theta.grad.zero_()
    assert torch.equal(held["theta"], GRADIENT)
