"""T12: annealing of the ascent."""

from __future__ import annotations

import math

import pytest
import torch

from palimpsest.errors import PlanError
from palimpsest.rules.schedule import ANNEALINGS, ascent_scale


def ascend(kind: str, planned: int, every: int, stop_share: float) -> float:
    """Displacement along a constant gradient of 1 after a run of real ascent steps of size 0.1."""
    theta = torch.nn.Parameter(torch.zeros((), dtype=torch.float64))
    optimizer = torch.optim.SGD([theta], lr=0.1)
    for step in range(0, planned, every):
        optimizer.zero_grad()
        (-ascent_scale(kind, step, planned, stop_share) * theta).backward()
        optimizer.step()
    return theta.item()


@pytest.mark.parametrize("kind", ["cosine", "linear"])
@pytest.mark.parametrize("planned", [1, 7, 100, 1500])
def test_t12_from_one_to_zero(kind: str, planned: int) -> None:
    anneal = ANNEALINGS[kind]
    assert anneal(0, planned) == ascent_scale(kind, 0, planned) == 1.0
    assert anneal(planned, planned) == ascent_scale(kind, planned, planned) == 0.0
    values = [anneal(step, planned) for step in range(planned + 1)]
    assert values == sorted(values, reverse=True)


def test_t12_values_by_hand() -> None:
    assert ascent_scale("cosine", 25, 100) == pytest.approx((1 + math.sqrt(0.5)) / 2)
    assert ascent_scale("cosine", 50, 100) == pytest.approx(0.5)
    assert ascent_scale("linear", 25, 100) == 0.75
    assert [ascent_scale("constant", step, 100) for step in (0, 94, 95)] == [1.0, 1.0, 0.0]


@pytest.mark.parametrize("kind", ["cosine", "linear"])
@pytest.mark.parametrize("every", [1, 5])
def test_t12_displacement_integrates_to_the_sum(kind: str, every: int) -> None:
    # n = K / T_in ascents, without a quiet end: 0.1 * (n + 1) / 2
    assert ascend(kind, 60, every, stop_share=0.0) == pytest.approx(0.1 * (60 / every + 1) / 2, rel=1e-12)


def test_t12_displacement_with_a_quiet_end() -> None:
    # cosine, first m = 95 of K = 100: m / 2 + sin(m x) cos((m - 1) x) / (2 sin x) with x = pi / 2K
    x = math.pi / 200
    expected = 0.1 * (95 / 2 + math.sin(95 * x) * math.cos(94 * x) / (2 * math.sin(x)))
    assert ascend("cosine", 100, 1, stop_share=0.05) == pytest.approx(expected, rel=1e-12)
    assert ascend("linear", 100, 1, stop_share=0.05) == pytest.approx(0.1 * sum(1 - k / 100 for k in range(95)))
    assert ascend("constant", 100, 1, stop_share=0.05) == pytest.approx(0.1 * 95)


@pytest.mark.parametrize("kind", sorted(ANNEALINGS))
@pytest.mark.parametrize(("planned", "quiet"), [(100, 5), (140, 7), (1500, 75), (30, 1), (10, 0), (1, 0)])
def test_t12_no_ascent_in_the_last_five_percent(kind: str, planned: int, quiet: int) -> None:
    scales = [ascent_scale(kind, step, planned) for step in range(planned)]
    assert [scale == 0.0 for scale in scales] == [False] * (planned - quiet) + [True] * quiet


def test_quiet_end_of_any_share() -> None:
    # 0.29 * 100 is 28.999999999999996 in floating point
    for percent in range(101):
        scales = [ascent_scale("constant", step, 100, stop_share=percent / 100) for step in range(100)]
        assert scales.count(0.0) == percent


def test_unknown_annealing_is_refused() -> None:
    with pytest.raises(PlanError, match="unknown annealing 'cosin'; did you mean 'cosine'"):
        ascent_scale("cosin", 0, 10)
