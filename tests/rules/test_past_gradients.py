"""What is recorded of a request: the groups of its rows, and the gradient of each."""

from __future__ import annotations

import pytest
import torch
from tests.contract.test_methods import new_model, random_set

from palimpsest.rules.past_gradients import in_groups, mean_gradient


@pytest.mark.parametrize("count", [1, 2, 3, 7, 20])
def test_groups_are_neighbours_and_as_large_as_each_other(count):
    ids = [f"r{n}" for n in range(11)]
    groups = in_groups(ids, count)
    assert [i for group in groups for i in group] == ids
    assert len(groups) == min(count, 11)
    assert max(map(len, groups)) - min(map(len, groups)) <= 1


def test_the_gradient_is_the_mean_over_all_positions():
    """Row by row, more of them than go through at once; nothing is left on the model."""
    model, rows = new_model(), random_set("forget", 11, 0)
    found = mean_gradient(model, rows, rows.ids)
    assert all(p.grad is None for p in model.parameters())
    sums = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    positions = 0
    for example_id in rows.ids:
        said = rows.batch([example_id]).predict(model)
        positions += len(said.logp_S)
        model.zero_grad()
        (-said.logp_S.sum()).backward()
        for name, p in model.named_parameters():
            sums[name] += p.grad
    for name, total in sums.items():
        torch.testing.assert_close(found[name], total / positions, rtol=1e-4, atol=1e-6)
