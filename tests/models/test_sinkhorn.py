"""Transport plans: against scalings in loops, against all permutations, and in both limits of the entropy."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from palimpsest.models.sinkhorn import sinkhorn, transported

COST = torch.tensor([[0.2, 1.0, 0.7], [0.9, 0.1, 0.5]])
A, B = (0.3, 0.7), (0.5, 0.2, 0.3)


def by_loops(reg: float, rounds: int = 5000) -> list[list[float]]:
    """Scalings u and v of exp(−C / reg), one number after the other."""
    kernel = [[math.exp(-c / reg) for c in row] for row in COST.tolist()]
    u, v = [1.0] * 2, [1.0] * 3
    for _ in range(rounds):
        u = [A[m] / sum(kernel[m][n] * v[n] for n in range(3)) for m in range(2)]
        v = [B[n] / sum(kernel[m][n] * u[m] for m in range(2)) for n in range(3)]
    return [[u[m] * kernel[m][n] * v[n] for n in range(3)] for m in range(2)]


@pytest.mark.parametrize("reg", [0.05, 0.464, 3.0])
def test_it_is_what_loops_find(reg):
    found = sinkhorn(COST, reg, source_M=torch.tensor(A), target_N=torch.tensor(B))
    assert torch.allclose(found, torch.tensor(by_loops(reg), dtype=torch.float64), atol=1e-7)


def test_rows_and_columns_sum_to_what_there_is():
    found = sinkhorn(COST, 0.02, source_M=torch.tensor(A), target_N=torch.tensor(B))
    assert torch.allclose(found.sum(1), torch.tensor(A, dtype=torch.float64), atol=1e-7)
    assert torch.allclose(found.sum(0), torch.tensor(B, dtype=torch.float64), atol=1e-7)


def test_with_hardly_an_entropy_it_is_the_cheapest_permutation():
    torch.manual_seed(0)
    cost = torch.rand(4, 4)
    cheapest = min(itertools.permutations(range(4)), key=lambda p: sum(cost[m, n].item() for m, n in enumerate(p)))
    found = sinkhorn(cost, 1e-3)
    assert found.argmax(1).tolist() == list(cheapest)
    assert found.max(1).values.min() > 0.24  # two of the permutations cost nearly the same


def test_with_entropy_alone_everything_goes_everywhere():
    found = sinkhorn(COST, 1e7, source_M=torch.tensor(A), target_N=torch.tensor(B))
    alone = torch.tensor(A, dtype=torch.float64)[:, None] * torch.tensor(B, dtype=torch.float64)
    assert torch.allclose(found, alone, atol=1e-6)


def test_costs_far_beyond_the_entropy_are_numbers_still():
    """exp(−5000) is 0 in any precision."""
    found = sinkhorn(torch.tensor([[100.0, 101.0], [100.0, 105.0]]), 0.02)
    assert torch.allclose(found, torch.tensor([[0.0, 0.5], [0.5, 0.0]], dtype=torch.float64), atol=1e-9)


def test_one_target_is_the_mean_of_all_sources():
    rows_MD = torch.tensor([[1.0, 0.0], [3.0, 4.0]])
    plan_MN = sinkhorn(torch.tensor([[5.0], [0.0]]), 0.02)
    assert torch.allclose(transported(plan_MN, rows_MD), torch.tensor([[2.0, 2.0]]))
