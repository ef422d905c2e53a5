"""T5, T6, T10: does the scheme end at the oracle? On softmax regression, where every optimum can be computed.

Losses are sums over examples divided by N = |R| + |L|; ``train`` finds their exact minimiser by Newton's method.
The oracle minimises L_R + L_L. A request starts from the minimiser of L_R + L_U: what to learn is unseen, what to
forget is fully remembered.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from palimpsest.rules.fast_slow import outer_step
from palimpsest.rules.schedule import ascent_scale

WIDTH, CLASSES, ETA = 6, 4, 1.0
SIZES = {"retain": 160, "learn": 40, "forget": 40}
COUNT = SIZES["retain"] + SIZES["learn"]
Loss = Callable[[Tensor], Tensor]


class Softmax(nn.Module):
    """Weights as one flat vector."""

    def __init__(self, theta: Tensor) -> None:
        super().__init__()
        self.theta = nn.Parameter(theta.clone())


def hessian(loss: Loss, theta: Tensor) -> Tensor:
    return torch.autograd.functional.hessian(loss, theta)


def gradient_of(loss: Loss, theta: Tensor) -> Tensor:
    return torch.autograd.functional.vjp(loss, theta)[1]


def solve(matrix: Tensor, vector: Tensor) -> Tensor:
    """Apart from the directions that no softmax sees: the same constant added to all classes."""
    return torch.linalg.pinv(matrix, rtol=1e-10, hermitian=True) @ vector


def train(loss: Loss, theta: Tensor) -> Tensor:
    for _ in range(12):
        gradient = gradient_of(loss, theta)
        if gradient.abs().max() < 1e-14:
            return theta
        theta = theta - solve(hessian(loss, theta), gradient)
    raise AssertionError("Newton's method did not converge")


@dataclass(frozen=True)
class Toy:
    """One request with its data."""

    x: dict[str, Tensor]
    y: dict[str, Tensor]

    def loss(self, name: str, theta: Tensor, weight_B: Tensor | float = 1.0) -> Tensor:
        logits = self.x[name] @ theta.reshape(WIDTH, CLASSES)
        return (weight_B * F.cross_entropy(logits, self.y[name], reduction="none")).sum() / COUNT

    def repair(self, theta: Tensor) -> Tensor:
        return self.loss("retain", theta) + self.loss("learn", theta)

    def weighted(self, learned_B: Tensor | float, remembered_B: Tensor | float) -> Loss:
        """L_R + sum e^L l + sum e^U l."""
        return lambda theta: (
            self.loss("retain", theta) + self.loss("learn", theta, learned_B) + self.loss("forget", theta, remembered_B)
        )

    @cached_property
    def start(self) -> Tensor:
        return train(self.weighted(0.0, 1.0), torch.zeros(WIDTH * CLASSES, dtype=torch.float64))

    @cached_property
    def oracle(self) -> Tensor:
        return train(self.repair, torch.zeros(WIDTH * CLASSES, dtype=torch.float64))

    def divergence(self, theta: Tensor) -> dict[str, float]:
        """Mean KL(oracle || model) on each set, nats."""
        found = {}
        for name, x in self.x.items():
            oracle, model = (torch.log_softmax(x @ t.reshape(WIDTH, CLASSES), 1) for t in (self.oracle, theta))
            found[name] = (oracle.exp() * (oracle - model)).sum(1).mean().item()
        return found


@pytest.fixture(scope="module")
def toy() -> Toy:
    draw = torch.Generator().manual_seed(2)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=draw, dtype=torch.float64)

    teacher = 0.5 * normal(WIDTH, CLASSES)
    x = {name: normal(size, WIDTH) + 0.5 * normal(WIDTH) for name, size in SIZES.items()}
    y = {name: torch.multinomial(torch.softmax(x[name] @ teacher, 1), 1, generator=draw)[:, 0] for name in x}
    return Toy(x, y)


def test_t5_stationarity_identity(toy: Toy) -> None:
    """Eq. 1: grad(L_R + L_L) = grad L_L(1 - e^L) - grad L_U(e^U), exactly, at the minimiser of the weighted loss."""
    draw = torch.Generator().manual_seed(0)
    learned_B, remembered_B = torch.rand(2, 40, generator=draw, dtype=torch.float64)
    theta = train(toy.weighted(learned_B, remembered_B), toy.start)
    left = gradient_of(toy.repair, theta)
    right = gradient_of(lambda t: toy.loss("learn", t, 1 - learned_B) - toy.loss("forget", t, remembered_B), theta)
    assert left.norm() > 1e-3
    assert (left - right).abs().max() < 1e-12


def test_t5_taylor_step_is_second_order(toy: Toy) -> None:
    """Eq. 2: theta_k - theta_* = H_*^-1 d_k up to the square of the distance."""
    curvature = hessian(toy.repair, toy.oracle)
    errors, distances = [], []
    for remaining in (1.0, 0.5, 0.25, 0.125):
        theta = train(toy.weighted(1 - remaining, remaining), toy.start)
        away = theta - toy.oracle
        error = away - solve(curvature, gradient_of(toy.repair, theta))
        errors.append(error.norm().item())
        distances.append(away.norm().item())
    assert distances[0] > 3 * distances[-1]
    ratios = [error / distance**2 for error, distance in zip(errors, distances, strict=True)]
    assert max(ratios) < 1.0
    assert max(ratios) < 2 * min(ratios)


def test_t5_one_newton_step_comes_five_times_closer(toy: Toy) -> None:
    theta = toy.start
    newton = theta - solve(hessian(toy.repair, theta), gradient_of(toy.repair, theta))
    before, after = toy.divergence(theta), toy.divergence(newton)
    assert min(before.values()) > 0.02
    assert all(before[name] > 5 * after[name] for name in SIZES)


@pytest.mark.parametrize(("kind", "close"), [("cosine", True), ("constant", False)])
def test_t6_only_annealed_ascent_reaches_the_oracle(toy: Toy, kind: str, close: bool) -> None:
    model = Softmax(toy.start)
    for step in range(200):
        scale = ascent_scale(kind, step, 200, stop_share=0.0)
        outer_step(
            model,
            lambda scale=scale: -scale * toy.loss("forget", model.theta),
            lambda: toy.repair(model.theta),
            beta=0.2,
            eta=ETA,
        )
    found = toy.divergence(model.theta.detach())
    assert all((value < 1e-5) == close for value in found.values()), found


def settled(toy: Toy, kappa: float, eta: float, inner_steps: int, count: int) -> tuple[Softmax, float]:
    """Learning and forgetting both in the fast step, constant: the limit, and its distance from the prediction.

    The distance is in units of the way from the start to the prediction, argmin L_R + kappa (L_L - L_U).
    """

    def predicted(theta: Tensor) -> Tensor:
        changing = toy.loss("learn", theta) - toy.loss("forget", theta)
        return toy.loss("retain", theta) + kappa * changing

    prediction = train(predicted, toy.start)
    model = Softmax(prediction)
    for _ in range(count):
        iterate(toy, model, kappa, eta, inner_steps, 1.0)
    away = (model.theta.detach() - prediction).norm() / (toy.start - prediction).norm()
    return model, away.item()


def iterate(toy: Toy, model: Softmax, kappa: float, eta: float, inner_steps: int, alpha_s: float) -> None:
    outer_step(
        model,
        lambda: toy.loss("learn", model.theta) - toy.loss("forget", model.theta),
        lambda: toy.loss("retain", model.theta),
        beta=kappa * eta * inner_steps,
        eta=eta,
        inner_steps=inner_steps,
        alpha_s=alpha_s,
    )


@pytest.mark.parametrize(("inner_steps", "kappa"), [(1, 0.2), (5, 0.04), (5, 0.2)])
def test_t6_constant_fast_steps_settle_at_the_prediction(toy: Toy, inner_steps: int, kappa: float) -> None:
    _, coarse = settled(toy, kappa, ETA, inner_steps, 60 // inner_steps)
    _, fine = settled(toy, kappa, ETA / 2, inner_steps, 120 // inner_steps)
    assert fine < 0.06
    assert coarse / fine == pytest.approx(2, rel=0.15)  # first order in eta


def test_t6_the_slow_step_does_not_change_the_limit(toy: Toy) -> None:
    model, _ = settled(toy, 0.2, ETA, 5, 90)
    limit = model.theta.detach().clone()
    for _ in range(3):
        iterate(toy, model, 0.2, ETA, 5, alpha_s=0.5)
    assert (model.theta.detach() - limit).abs().max() < 1e-13


def test_t10_compensated_direction_spares_what_remains(toy: Toy) -> None:
    """At argmin L_R, repetition with constant g moves along -H^-1 g, which for the same progress costs least."""
    centre = train(lambda theta: toy.loss("retain", theta), toy.oracle)
    curvature = hessian(lambda theta: toy.loss("retain", theta), centre)
    gradient = gradient_of(lambda t: toy.loss("learn", t) - toy.loss("forget", t), centre)
    model = Softmax(centre)
    for _ in range(300):
        outer_step(
            model,
            lambda: gradient @ model.theta,
            lambda: toy.loss("retain", model.theta),
            beta=1e-4,  # so small that L_R is a quadratic all the way
            eta=ETA / 2,
        )
    compensated = model.theta.detach() - centre
    inverse = -solve(curvature, gradient)
    assert F.cosine_similarity(compensated, inverse, dim=0) > 0.99
    assert F.cosine_similarity(-gradient, inverse, dim=0) < 0.95
    rises = []
    for direction in (compensated, -gradient):
        step = direction * (-1e-4 / (gradient @ direction))
        rise = toy.loss("retain", centre + step) - toy.loss("retain", centre)
        assert rise.item() == pytest.approx(0.5 * (step @ curvature @ step).item(), rel=0.05)
        rises.append(rise.item())
    # in the quadratic, |g|^4 / (g H g . g H^-1 g): at most 1, and less the more the curvatures along g differ
    expected = (gradient @ gradient) ** 2 / ((gradient @ curvature @ gradient) * -(gradient @ inverse))
    assert rises[0] / rises[1] == pytest.approx(expected.item(), rel=0.05)
    assert rises[0] < 0.9 * rises[1]
