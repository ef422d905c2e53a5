"""The line search by closed forms, and against a brute-force scan; the damage against a loop over single rows."""

from __future__ import annotations

import math

import pytest
import torch
from tests.contract.test_methods import random_set

from palimpsest.rules.damage_budget import (
    Damage,
    LinePoint,
    WeightLine,
    largest_count,
    largest_within,
    point_on_line,
)


@pytest.mark.parametrize("first", [1e-6, 1.0, 1e5])
@pytest.mark.parametrize("budget", [1e-3, 0.05, 7.0])
def test_a_parabola_is_met_within_its_slack(first, budget):
    """a² / 2 = B at a = sqrt(2 B); few evaluations, wherever it begins."""
    looked = []
    found = largest_within(lambda a: looked.append(a) or a * a / 2, budget, first=first)
    assert 0.95 * budget <= found.damage <= budget
    assert math.sqrt(0.95) <= found.size / math.sqrt(2 * budget) <= 1
    assert found.tries == len(looked) <= 20


def test_what_is_no_number_is_beyond_any_budget():
    found = largest_within(lambda a: a if a < 3 else math.nan, 1e9, first=1.0)
    assert 2.9 < found.size < 3


def test_a_jump_over_the_budget_ends_below_it():
    assert largest_within(lambda a: 0.0 if a < 5 else 1.0, 0.5).size == pytest.approx(5, rel=1e-3)


def test_nothing_within_is_nothing_at_all():
    assert largest_within(lambda a: 1.0, 0.5) == LinePoint(0.0, 0.0)


def test_it_goes_no_farther_than_it_may():
    assert largest_within(lambda a: 0.0, 1.0, most=50.0).size == 50.0


@pytest.mark.parametrize("right", [0, 1, 37, 40])
def test_a_count_is_the_last_within(right):
    assert largest_count(lambda count: float(count > right), 0.5, 40) == right


def test_a_line_is_always_drawn_from_its_start(tiny_llama):
    """Half precision: after a walk there and back the weights are those of the start, bit for bit."""
    model = tiny_llama.to(torch.bfloat16)
    name = "model.layers.0.mlp.down_proj.weight"
    weight = model.get_parameter(name)
    start, direction = weight.detach().clone(), torch.randn(weight.shape)
    line = WeightLine({name: start.clone()}, {name: direction})
    for size in (0.3, 1e-3, 7.0):
        line.put(model, size)
        assert torch.equal(weight, (start.float() - size * direction).to(torch.bfloat16))
    line.put(model, 0.0)
    assert torch.equal(weight, start)
    assert line.size_of(0.1) == pytest.approx(0.1 * float(start.float().norm() / direction.norm()), rel=1e-5)


def test_a_point_is_exact_where_nothing_moves():
    start = torch.tensor([0.1], dtype=torch.bfloat16)
    assert torch.equal(point_on_line(start, torch.ones(1), 0.0), start)


def test_damage_is_the_mean_over_positions_of_single_rows(tiny_llama, tmp_path):
    """By hand: Σ_v p (log p − log p') at every position of every row alone, whatever is padded in a batch."""
    import copy

    examples = random_set("r", 11, 2)
    before, after = tiny_llama, copy.deepcopy(tiny_llama)
    with torch.no_grad():
        for parameter in after.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.02)
    found = Damage(lambda _model, batch: batch.predict(before), examples, 100)(after)
    terms = []
    for example_id in examples.ids:
        row = examples[example_id]
        tokens = torch.tensor([row.tokens])
        with torch.no_grad():
            p, q = (model(input_ids=tokens).logits[0].double().log_softmax(-1) for model in (before, after))
        terms += [(p[t - 1].exp() * (p[t - 1] - q[t - 1])).sum().item() for t, s in enumerate(row.scored) if s]
    assert found == pytest.approx(sum(terms) / len(terms), rel=1e-4)


def test_a_line_is_gone_along_to_the_budget(tiny_llama):
    name = "model.embed_tokens.weight"
    weight = tiny_llama.get_parameter(name)
    start = weight.detach().clone()
    line = WeightLine({name: start}, {name: torch.ones_like(start)})
    found = line.go_within(
        tiny_llama, lambda model: float((model.get_parameter(name).detach() - start).abs().max()), 0.01
    )
    assert 0.95 * 0.01 <= found.damage <= 0.01 + 1e-6
    assert torch.allclose(weight, start - found.size)
