"""Worked by hand: g_R = (3, 4), g_F = (0, 2): the step goes along (0.6, 0.8) − (0, 1) = (0.6, −0.2)."""

from __future__ import annotations

import pytest
import torch
from accelerate import Accelerator
from tests.methods.spelled_out import OTHER, ROWS, batch, table
from torch import nn

from palimpsest import methods
from palimpsest.data.encode.batch import TextSet
from palimpsest.errors import PlanError
from palimpsest.loop.step import micro_batches, take_step
from palimpsest.methods.ng_diff import NGDiff, NGDiffConfig, unit_factor

AWAY, BOTH = NGDiff(NGDiffConfig()).phases(0, 1)


def with_gradients(method, model, away, back):
    method.prepare(model, {})
    for phase, gradients in ((AWAY, away), (BOTH, back)):
        for parameter, gradient in zip(model.parameters(), gradients, strict=True):
            parameter.grad = None if gradient is None else torch.tensor(gradient)
        method.transform(model, phase)
    return [parameter.grad.tolist() for parameter in model.parameters()]


def two() -> nn.Module:
    return nn.ParameterList([torch.zeros(1), torch.zeros(1)])


def test_the_direction_by_hand():
    found = with_gradients(NGDiff(NGDiffConfig()), two(), ([0.0], [2.0]), ([3.0], [4.0]))
    assert [g[0] for g in found] == pytest.approx([0.6, -0.2])
    weighed = with_gradients(NGDiff(NGDiffConfig(gamma=2.0, alpha=0.5)), two(), ([0.0], [2.0]), ([3.0], [4.0]))
    assert [g[0] for g in weighed] == pytest.approx([0.3, 0.4 - 2.0])


def test_the_size_of_a_gradient_is_nothing_to_it():
    small = with_gradients(NGDiff(NGDiffConfig()), two(), ([0.1], [-0.2]), ([3e-3], [4e-3]))
    large = with_gradients(NGDiff(NGDiffConfig()), two(), ([1e3], [-2e3]), ([0.3], [0.4]))
    assert [g[0] for g in small] == pytest.approx([g[0] for g in large], rel=1e-4)


def test_one_side_without_a_gradient_leaves_the_other():
    assert with_gradients(NGDiff(NGDiffConfig()), two(), ([0.0], [0.0]), ([3.0], [4.0]))[0] == pytest.approx([0.6])
    assert with_gradients(NGDiff(NGDiffConfig()), two(), ([0.0], [2.0]), (None, [4.0])) == [[0.0], [0.0]]
    assert unit_factor([]) == 0.0


def descended(size):
    """A whole iteration at rate 1 by plain descent, in micro-batches; where the table went."""
    model, sets = table(13), {"forget": TextSet(ROWS, 2), "retain": TextSet(OTHER, 2)}
    before, method = model.table.detach().clone(), NGDiff(NGDiffConfig())
    method.prepare(model, sets)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    for phase in method.phases(0, 1):
        (name,) = phase.sets
        parts = micro_batches(sets, {name: sets[name].ids}, "forget", size)
        take_step(Accelerator(cpu=True), method, model, optimizer, parts, phase=phase, max_grad_norm=1e-3)
    return before - model.table.detach()


def test_a_step_is_the_difference_of_the_units_however_it_is_cut():
    """As spelled out by two gradients of the mean loss; the run's clipping has no say."""
    model, found = table(13), []
    for rows in (OTHER, ROWS):
        given = batch(rows)
        (-given.predict(model).logp_S.mean()).backward()
        found.append(model.table.grad / model.table.grad.norm())
        model.table.grad = None
    whole = descended(None)
    assert torch.allclose(whole, found[0] - found[1], atol=1e-5)
    assert torch.allclose(whole, descended(1), atol=1e-5)


def test_to_first_order_both_losses_go_the_right_way():
    losses, step = {}, descended(None)
    for name, rows in (("forget", ROWS), ("retain", OTHER)):
        model = table(13)
        before = -batch(rows).predict(model).logp_S.mean().item()
        with torch.no_grad():
            model.table.sub_(step, alpha=1e-2)
        losses[name] = -batch(rows).predict(model).logp_S.mean().item() - before
    assert losses["forget"] > 0 > losses["retain"]


def test_no_descent_is_refused():
    with pytest.raises(PlanError, match=r"ng_diff\.alpha = 0: .*greater than 0"):
        methods.configure("ng_diff", {"alpha": 0})
