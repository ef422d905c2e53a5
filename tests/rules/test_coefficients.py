"""T7: adaptive weights. Losses 0.1, 1, 10: lambda 0.5 weighs them 3.16 : 1 : 0.316, lambda 1 as 10 : 1 : 0.1."""

from __future__ import annotations

import pytest
import torch

from palimpsest.rules.coefficients import LOSS_FLOOR, inverse_power, may_ascend, power, weighted_mean

LOSSES = (0.1, 1.0, 10.0)


def losses(*values: float, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.tensor(values or LOSSES, dtype=dtype, requires_grad=True)


@pytest.mark.parametrize(
    ("temperature", "expected"),
    [(0.0, (1 / 3, 1 / 3, 1 / 3)), (0.5, (0.7061, 0.2233, 0.0706)), (1.0, (0.9009, 0.0901, 0.0090))],
)
def test_t7_weights_of_forgetting(temperature: float, expected: tuple[float, ...]) -> None:
    weight_B = inverse_power(losses(), temperature)
    assert (weight_B / weight_B.sum()).tolist() == pytest.approx(expected, abs=5e-5)


def test_t7_weights_of_learning_are_the_reciprocals() -> None:
    assert power(losses(), 0.5).tolist() == pytest.approx((0.316228, 1, 3.162278), rel=1e-6)


def test_t7_lambda_zero_is_the_plain_mean() -> None:
    loss_B, plain_B = losses(), losses()
    for weigh in (inverse_power, power):
        value = weighted_mean(loss_B, weigh(loss_B, 0.0))
        assert value.item() == pytest.approx(3.7, rel=1e-15)
        assert torch.equal(*(torch.autograd.grad(v, x)[0] for v, x in ((value, loss_B), (plain_B.mean(), plain_B))))


def test_t7_lambda_one_is_the_harmonic_mean() -> None:
    loss_B = losses()
    value = weighted_mean(loss_B, inverse_power(loss_B, 1.0))
    assert value.item() == pytest.approx(3 / 11.1)
    assert value.item() == pytest.approx(0.27027, abs=1e-5)


def test_t7_no_gradient_goes_through_the_weights() -> None:
    loss_B = losses()
    assert not inverse_power(loss_B, 0.5).requires_grad
    assert not power(loss_B, 0.5).requires_grad
    for attached in (inverse_power(loss_B, 0.5), loss_B**-0.5):
        (gradient,) = torch.autograd.grad(weighted_mean(loss_B, attached), loss_B)
        # d/dl of sum(w l) / sum(w) with w constant is w / sum(w)
        assert gradient.tolist() == pytest.approx((0.7061, 0.2233, 0.0706), abs=5e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_a_loss_of_zero_weighs_as_the_smallest_one(dtype: torch.dtype, temperature: float) -> None:
    loss_B = losses(0.0, 1.0, dtype=dtype)
    for weight_B in (inverse_power(loss_B, temperature), power(loss_B, temperature)):
        assert weight_B.dtype == torch.float32
        assert bool((weight_B.isfinite() & (weight_B > 0)).all())
    assert inverse_power(loss_B, temperature)[0].item() == pytest.approx(LOSS_FLOOR**-temperature, rel=1e-5)
    assert weighted_mean(loss_B, inverse_power(loss_B, temperature)).isfinite()
    # the floor is where an fp32 softmax stops: the next loss above 0 is not touched
    smallest = torch.nn.functional.cross_entropy(torch.tensor([[0.0, -15.9]]), torch.tensor([0]))
    assert smallest.item() == pytest.approx(LOSS_FLOOR)


def test_an_example_at_the_target_is_ascended_no_further() -> None:
    loss_B = losses()
    assert may_ascend(loss_B, 1.0).tolist() == [1.0, 0.0, 0.0]
    assert may_ascend(loss_B, None).tolist() == [1.0, 1.0, 1.0]
    (gradient,) = torch.autograd.grad((may_ascend(loss_B, 5.0) * loss_B).sum(), loss_B)
    assert gradient.tolist() == [1.0, 1.0, 0.0]
