"""The ridge head: the error that follows from sums is that of the rows."""

from __future__ import annotations

import pytest
import torch

from palimpsest.models.parts.ridge_head import RidgeHead, RidgeHeadConfig, held_out_errors, solved


@pytest.mark.parametrize("penalty", [1e-3, 1.0, 100.0])
def test_errors_from_sums_are_those_of_the_rows(penalty) -> None:
    torch.manual_seed(0)
    hidden, held = torch.randn(20, 5).double(), torch.randn(7, 5).double()
    wanted, others = torch.randn(20, 2).double(), torch.eye(2).double()[torch.arange(7) % 2]
    solution = solved(hidden.T @ hidden, hidden.T @ wanted, penalty)
    assert torch.allclose((hidden.T @ hidden + penalty * torch.eye(5)) @ solution, hidden.T @ wanted)
    fit = (hidden.T @ hidden, hidden.T @ wanted)
    (found,) = held_out_errors(fit, (held.T @ held, held.T @ others, 7.0), [penalty])
    assert found.item() == pytest.approx((held @ solution - others).square().sum().item())


def test_what_is_drawn_is_of_the_seed() -> None:
    one, same, other = (RidgeHead(RidgeHeadConfig(at="h", width=3, classes=2, seed=s)) for s in (0, 0, 1))
    for head in (one, same, other):
        head.draw()
    assert torch.equal(one.random_DM, same.random_DM)
    assert not torch.equal(one.random_DM, other.random_DM)
