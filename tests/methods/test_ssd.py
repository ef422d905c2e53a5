"""SSD: dampening by loops, both limits of the threshold, the search, what is refused."""

from __future__ import annotations

import copy

import pytest
import torch
from tests.methods.classes import Before, LinearImages, images

from palimpsest import methods
from palimpsest.errors import PlanError
from palimpsest.methods.ssd import SSD, dampened
from palimpsest.rules.damage_budget import Damage

FAN = [[4.0, 0.0], [0.0, 4.0], [-4.0, -4.0]]


@pytest.fixture
def sets():
    forget = images("f", [[250, 10], [230, 5]], [0, 0])
    retain = images("r", [[10, 250], [5, 200], [0, 0], [10, 5]], [1, 1, 2, 2])
    return {"forget": forget, "retain": retain}


def edited(model, sets, **options):
    method = SSD(methods.configure("ssd", options), Before(copy.deepcopy(model)))
    method.prepare(model, sets)
    return method, method.edit(model, sets)


@pytest.mark.parametrize(("alpha", "dampening"), [(10.0, 1.0), (2.0, 0.5), (0.5, 3.0), (0.0, 1.0)])
def test_by_loops(alpha, dampening):
    torch.manual_seed(0)
    weight, forget, whole = torch.randn(40), torch.rand(40).pow(4), torch.rand(40).pow(4)
    wanted = []
    for w, f, d in zip(weight.tolist(), forget.tolist(), whole.tolist(), strict=True):
        wanted.append(w * min(dampening * d / f, 1.0) if f > alpha * d else w)
    assert dampened(weight, forget, whole, alpha=alpha, dampening=dampening).tolist() == pytest.approx(wanted, rel=1e-5)


def test_a_weight_without_any_fisher_stays():
    """0 > α · 0 is false; 0 / 0 must not become a weight."""
    assert dampened(torch.ones(1), torch.zeros(1), torch.zeros(1), alpha=1.0, dampening=1.0).tolist() == [1.0]


def test_never_made_larger():
    """λ F_D / F_f may be above 1."""
    assert dampened(torch.ones(1), torch.ones(1), torch.ones(1), alpha=0.5, dampening=9.0).tolist() == [1.0]


def test_the_search_takes_the_smallest_threshold_that_retain_can_bear(sets):
    model = LinearImages(FAN)
    before = copy.deepcopy(model)
    method, _ = edited(model, sets, budget=0.02)
    found = method.diagnostics(0.0)
    damage = Damage(lambda _m, batch: batch.predict(before), sets["retain"], 256)
    assert damage(model) == pytest.approx(found["damage"], abs=1e-7)
    assert found["damage"] <= 0.02
    assert found["alpha"] >= 1
    known = sets["forget"].batch(sets["forget"].ids)
    assert known.predict(model).logp_S.sum() < known.predict(before).logp_S.sum() - 0.1


def test_a_given_threshold_is_taken_and_a_huge_one_leaves_every_weight(sets):
    model = LinearImages(FAN)
    method, _ = edited(model, sets, alpha=1e9)
    assert method.diagnostics(0.0)["dampened"] == 0.0
    assert torch.equal(model.linear.weight, torch.tensor(FAN))


def test_an_adapter_is_refused(sets):
    model = LinearImages(FAN)
    model.disable_adapter = None
    with pytest.raises(PlanError, match=r"ssd shrinks the weights themselves.*scope\.kind = all"):
        SSD(methods.configure("ssd", {})).prepare(model, sets)


def test_a_negative_threshold_is_refused():
    with pytest.raises(PlanError, match=r"ssd\.alpha = -1: .*greater than or equal to 0"):
        methods.configure("ssd", {"alpha": -1})
