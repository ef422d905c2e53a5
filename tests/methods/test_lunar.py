"""LUNAR: the closed form against torch's least squares over single positions, the direction, the budget, refusals."""

from __future__ import annotations

import copy

import pytest
import torch
from tests.contract.test_methods import random_set

from palimpsest import methods
from palimpsest.errors import PlanError
from palimpsest.methods.lunar import LUNAR, LUNARConfig, redirection
from palimpsest.models.activations import inputs_of
from palimpsest.models.moments import Inflow, inflow_of, mean_output
from palimpsest.models.reference import build_reference
from palimpsest.rules.damage_budget import Damage


@pytest.fixture
def sets():
    return {"forget": random_set("f", 3, 1), "retain": random_set("r", 9, 2), "refusal": random_set("n", 3, 3)}


def test_the_closed_form_is_the_least_squares():
    """Rows of one tall system: forget positions, retain positions, and sqrt(mu) I for the ridge."""
    beta, ridge = 0.7, 0.05
    generator = torch.Generator().manual_seed(0)
    a_f, a_r = (torch.randn(n, 5, generator=generator, dtype=torch.float64) for n in (7, 30))
    W, r = torch.randn(4, 5, dtype=torch.float64), torch.randn(4, dtype=torch.float64)
    c = 2.0
    moments = [Inflow(a.mean(0), a.T @ a / len(a)) for a in (a_f, a_r)]
    mu = ridge * (moments[0].second_FF + beta * moments[1].second_FF).diagonal().mean()
    weights = [(1 / len(a_f)) ** 0.5, (beta / len(a_r)) ** 0.5, mu**0.5]
    left = torch.cat([w * a for w, a in zip(weights, (a_f, a_r, torch.eye(5, dtype=torch.float64)), strict=True)])
    wanted = (a_f @ W.T + c * r, a_r @ W.T, W.T)
    right = torch.cat([w * y for w, y in zip(weights, wanted, strict=True)])
    expected = torch.linalg.lstsq(left, right).solution.T
    assert torch.allclose(W + c * redirection(*moments, r, beta=beta, ridge=ridge), expected, atol=1e-9)


def test_what_forget_and_retain_share_nothing_of_is_moved_whole():
    """Forget along one axis, retain along another: Ŵ a_f = W a_f + c r, and retain is not touched."""
    one, other, r = torch.tensor([2.0, 0.0]), torch.tensor([0.0, 1.0]), torch.tensor([1.0, -1.0, 0.5])
    flows = [Inflow(a, torch.outer(a, a)) for a in (one, other)]
    change = redirection(*flows, r, beta=1.0, ridge=1e-9).float()
    assert torch.allclose(change @ one, r, atol=1e-4)
    assert torch.allclose(change @ other, torch.zeros(3), atol=1e-6)


def test_moments_are_of_the_label_positions_of_single_rows(tiny_llama, sets):
    layer, block = "model.layers.0.mlp.down_proj", "model.layers.0"
    found, mean = inflow_of(tiny_llama, layer, sets["retain"]), mean_output(tiny_llama, block, sets["retain"])
    inputs, outputs = [], []
    hooks = [
        tiny_llama.get_submodule(layer).register_forward_hook(lambda _m, i, _o: inputs.append(i[0][0])),
        tiny_llama.get_submodule(block).register_forward_hook(
            lambda _m, _i, o: outputs.append((o[0] if isinstance(o, tuple) else o).reshape(-1, 32))
        ),
    ]
    rows = [sets["retain"][i] for i in sets["retain"].ids]
    with torch.no_grad():
        for row in rows:
            tiny_llama(input_ids=torch.tensor([row.tokens]))
    for hook in hooks:
        hook.remove()
    picked = [[t - 1 for t, s in enumerate(row.scored) if s] for row in rows]
    a = torch.cat([one[at] for one, at in zip(inputs, picked, strict=True)]).double()
    h = torch.cat([one[at] for one, at in zip(outputs, picked, strict=True)]).double()
    assert torch.allclose(found.mean_F, a.mean(0), atol=1e-5)
    assert torch.allclose(found.second_FF, a.T @ a / len(a), atol=1e-5)
    assert torch.allclose(mean, h.mean(0), atol=1e-5)


def edited(model, sets, folder, **options):
    method = LUNAR(LUNARConfig(**options), build_reference(model, {"retain": sets["retain"]}, folder))
    method.prepare(model, sets)
    return method, method.edit(model, sets)


def test_one_matrix_moves_by_rank_one_towards_refusals(tiny_llama, sets, tmp_path):
    before = copy.deepcopy(tiny_llama)
    _, named = edited(tiny_llama, sets, tmp_path, coefficient=1.0, layer=0)
    name = "model.layers.0.mlp.down_proj.weight"
    assert named == [name]
    change = (tiny_llama.get_parameter(name) - before.get_parameter(name)).detach()
    values = torch.linalg.svdvals(change)
    assert values[1] < 1e-4 * values[0]
    batch = sets["forget"].batch(sets["forget"].ids)
    a_SF = inputs_of(before, "model.layers.0.mlp.down_proj", batch)
    means = [mean_output(before, "model.layers.0", sets[s]) for s in ("refusal", "forget")]
    towards = (means[0] - means[1]).float()
    assert torch.cosine_similarity((a_SF @ change.T).mean(0), towards, dim=0) > 0.999


def test_how_far_is_a_matter_of_damage(tiny_llama, sets, tmp_path):
    with torch.no_grad():
        for parameter in tiny_llama.parameters():
            parameter.mul_(3)
    before = copy.deepcopy(tiny_llama)
    edited(tiny_llama, sets, tmp_path, budget=1e-4)
    found = Damage(lambda _m, batch: batch.predict(before), sets["retain"], 64)(tiny_llama)
    assert 0.94e-4 <= found <= 1.01e-4


def test_a_block_that_is_not_there_is_refused(tiny_llama, sets, tmp_path):
    with pytest.raises(PlanError, match=r"lunar\.layer = 2: the model has 2 blocks; accepted: 0 to 1"):
        edited(tiny_llama, sets, tmp_path, layer=2)


def test_no_ridge_is_refused():
    with pytest.raises(PlanError, match=r"lunar\.ridge = 0: .*greater than 0"):
        methods.configure("lunar", {"ridge": 0})
