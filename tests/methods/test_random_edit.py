"""The edit has the size that was asked for, and nothing else decides it."""

import pytest
import torch

from palimpsest import methods
from palimpsest.errors import PlanError
from palimpsest.methods.random_edit import RandomEdit, RandomEditConfig


def moved(model, config, sets):
    before = model.table.detach().clone()
    method = RandomEdit(config)
    method.prepare(model, sets)
    assert torch.equal(model.table, before)
    assert method.edit(model, sets) == ["table"]
    assert method.stages({}) == method.phases(0, 1) == ()
    return model.table.detach() - before


def test_the_edit_has_the_norm_asked_for(half, one_set):
    assert moved(half, RandomEditConfig(norm=2.5), {"forget": one_set}).norm().item() == pytest.approx(2.5, rel=1e-5)


def test_the_seed_decides_the_direction(half, skewed, one_set):
    same = [moved(model, RandomEditConfig(seed=1), {"forget": one_set}) for model in (half, skewed)]
    assert torch.allclose(*same, atol=1e-6)
    assert not torch.allclose(same[0], moved(half, RandomEditConfig(seed=2), {"forget": one_set}), atol=1e-3)


def test_zero_norm_is_refused():
    with pytest.raises(PlanError, match=r"random_edit.norm = 0"):
        methods.configure("random_edit", {"norm": 0})
