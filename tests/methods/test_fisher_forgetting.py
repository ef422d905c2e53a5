"""Fisher forgetting: its noise by hand, the class variant, the budget, what is refused."""

from __future__ import annotations

import copy

import pytest
import torch
from tests.methods.classes import Before, LinearImages, images

from palimpsest import methods
from palimpsest.data.encode.gone_classes import gone_classes
from palimpsest.errors import PlanError
from palimpsest.methods.fisher_forgetting import FisherForgetting, mean_of_others, scrubbing_noise
from palimpsest.rules.damage_budget import Damage

FAN = [[4.0, 0.0], [0.0, 4.0], [-4.0, -4.0]]


@pytest.fixture
def sets():
    torch.manual_seed(0)
    forget = images("f", [[5, 5], [0, 0]], [2, 2])
    retain = images("r", [[250, 20], [20, 250], [200, 60], [90, 220]], [0, 1, 0, 1])
    return {"forget": forget, "retain": retain}


def edited(model, sets, **options):
    method = FisherForgetting(methods.configure("fisher_forgetting", options), Before(copy.deepcopy(model)))
    method.prepare(model, sets)
    return method, method.edit(model, sets)


@pytest.mark.parametrize("power", [0.25, 0.5])
def test_the_noise_falls_with_the_fisher(power):
    """Fisher 16 and 1, next to no floor: the same draws, 16^−power apart."""
    fisher = {"a": torch.tensor([16.0, 1.0])}
    noise = scrubbing_noise(fisher, power=power, floor=1e-9, seed=3)["a"]
    drawn = torch.randn(2, generator=torch.Generator().manual_seed(3))
    assert torch.allclose(noise, drawn * torch.tensor([16.0**-power, 1.0]), rtol=1e-5)


def test_a_weight_of_no_use_gets_finite_noise_by_the_floor():
    noise = scrubbing_noise({"a": torch.tensor([0.0, 2.0])}, power=0.5, floor=0.01, seed=0)["a"]
    drawn = torch.randn(2, generator=torch.Generator().manual_seed(0))
    assert noise[0].item() == pytest.approx(drawn[0].item() * (0.01 * 1.0) ** -0.5, rel=1e-5)
    nothing = scrubbing_noise({"a": torch.zeros(2)}, power=0.5, floor=0.01, seed=0)["a"]
    assert nothing.isfinite().all()


def test_a_row_at_zero_would_win_where_all_logits_are_negative_and_the_mean_never_does():
    """The trap of the published class variant."""
    rows, x = torch.tensor([[-1.0, -2.0], [7.0, 7.0], [-3.0, -1.0]]), torch.tensor([1.0, 1.0])
    zeroed = rows.clone()
    zeroed[1] = 0.0
    assert (zeroed @ x).argmax() == 1
    assert (mean_of_others(rows, (1,)) @ x).argmax() != 1


def test_which_classes_go_whole(sets):
    assert gone_classes(sets["forget"], sets["retain"]) == (2,)
    assert gone_classes(images("f", [[5, 5]], [1]), sets["retain"]) == ()
    assert gone_classes(object(), sets["retain"]) == ()


def test_a_class_that_goes_is_told_no_more_and_the_budget_is_kept(sets):
    model = LinearImages([[40.0, 0.0], [0.0, 40.0], [-40.0, -40.0]], [0.0, 0.0, 6.0])
    before = copy.deepcopy(model)
    method, named = edited(model, sets, budget=0.02)
    found = method.diagnostics(0.0)
    assert set(named) == {"linear.weight", "linear.bias"}
    assert Damage(lambda _m, batch: batch.predict(before), sets["retain"], 256)(model) == pytest.approx(found["damage"])
    assert found["damage"] <= 0.02
    assert (found["classes"], found["silenced"]) == (1.0, 1.0)
    known = sets["forget"].batch(sets["forget"].ids)
    assert known.predict(before).logp_S.exp().min() > 0.5
    assert known.predict(model).logp_S.exp().max() < 0.5


def test_rows_go_no_further_than_half_of_the_budget_lets(sets):
    model = LinearImages(FAN)
    method, _ = edited(model, sets, budget=0.02)
    assert 0 < method.diagnostics(0.0)["silenced"] < 1
    assert method.diagnostics(0.0)["damage"] <= 0.02


def test_single_images_get_noise_alone(sets):
    sets["forget"] = images("f", [[230, 30]], [0])
    model = LinearImages(FAN)
    method, _ = edited(model, sets, budget=1e-3)
    assert method.diagnostics(0.0)["classes"] == 0.0
    assert 0.9e-3 < method.diagnostics(0.0)["damage"] <= 1e-3


def test_no_damage_is_refused():
    with pytest.raises(PlanError, match=r"fisher_forgetting\.budget = 0: .*greater than 0"):
        methods.configure("fisher_forgetting", {"budget": 0})
