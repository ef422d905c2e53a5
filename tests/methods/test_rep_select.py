"""RepSelect: known singular vectors, the gradient against differences, the budget, what is refused."""

from __future__ import annotations

import copy

import pytest
import torch
from tests.contract.test_methods import random_set
from torch import nn

from palimpsest import methods
from palimpsest.errors import PlanError
from palimpsest.methods.rep_select import RepSelect, RepSelectConfig, likelihood_gradient, selected
from palimpsest.models.mlp_weights import mlp_weights
from palimpsest.models.reference import build_reference
from palimpsest.rules.damage_budget import Damage


@pytest.fixture
def sets():
    return {"forget": random_set("f", 3, 1), "retain": random_set("r", 5, 2)}


def orthogonal(rows, columns, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(rows, columns, generator=generator))[0]


@pytest.mark.parametrize("hard", [True, False])
def test_known_singular_vectors_by_the_projections_of_the_equation(hard):
    """(I − U(I−D)Uᵀ) G (I − V(I−D)Vᵀ), written out with projections in double precision."""
    U, V, s = orthogonal(6, 4, 0), orthogonal(5, 4, 1), torch.tensor([8.0, 4.0, 2.0, 0.5])
    G = (U * s) @ V.T
    D = torch.zeros(3) if hard else s[2] / s[:3]
    left = torch.eye(6) - (U[:, :3] * (1 - D)) @ U[:, :3].T
    right = torch.eye(5) - (V[:, :3] * (1 - D)) @ V[:, :3].T
    assert torch.allclose(selected(G, 3, hard=hard), left @ G @ right, atol=1e-5)


def test_hard_leaves_nothing_of_the_first_components():
    U, V, s = orthogonal(6, 4, 0), orthogonal(5, 4, 1), torch.tensor([8.0, 4.0, 2.0, 0.5])
    left = selected((U * s) @ V.T, 2, hard=True)
    assert torch.allclose(torch.linalg.svdvals(left)[:2], s[2:], atol=1e-5)
    assert (U[:, :2].T @ left).abs().max() < 1e-5


def test_rank_zero_and_a_vector_leave_the_gradient():
    G = torch.randn(4, 3)
    assert torch.equal(selected(G, 0, hard=True), G)
    assert torch.equal(selected(G[:1], 5, hard=True), G[:1])


def test_no_gradient_stays_no_gradient():
    assert torch.equal(selected(torch.zeros(4, 3), 2, hard=False), torch.zeros(4, 3))


def test_the_gradient_is_of_the_log_likelihood_of_all_rows(tiny_llama, sets):
    """One weight moved by ±h, in double precision: (L(+h) − L(−h)) / 2h."""
    name, h = "model.layers.1.mlp.up_proj.weight", 1e-3
    found = likelihood_gradient(tiny_llama, mlp_weights(tiny_llama, "test"), sets["forget"])[name]
    model = copy.deepcopy(tiny_llama).double()
    row, column = divmod(int(found.abs().argmax()), found.shape[1])
    sides = []
    for sign in (1, -1):
        with torch.no_grad():
            model.get_parameter(name)[row, column] += sign * h
            sides.append(sum(log_likelihood(model, sets["forget"][i]) for i in sets["forget"].ids))
            model.get_parameter(name)[row, column] -= sign * h
    assert found[row, column].item() == pytest.approx((sides[0] - sides[1]) / (2 * h), rel=1e-3)


def log_likelihood(model, row):
    logp = model(input_ids=torch.tensor([row.tokens])).logits[0].log_softmax(-1)
    return sum(logp[t - 1, row.tokens[t]].item() for t, scored in enumerate(row.scored) if scored)


def edited(model, sets, folder, **options):
    method = RepSelect(RepSelectConfig(**options), build_reference(model, {"retain": sets["retain"]}, folder))
    method.prepare(model, sets)
    return method, method.edit(model, sets)


def test_the_edit_uses_the_budget_and_moves_mlp_matrices_alone(tiny_llama, sets, tmp_path):
    before = copy.deepcopy(tiny_llama)
    method, named = edited(tiny_llama, sets, tmp_path, budget=1e-4)
    assert 0.95e-4 <= Damage(lambda _m, batch: batch.predict(before), sets["retain"], 64)(tiny_llama) <= 1.001e-4
    assert method.diagnostics(0.0)["damage"] <= 1e-4
    assert set(named) == {n for n, _ in before.named_parameters() if "mlp." in n}
    found = sets["forget"].batch(sets["forget"].ids)
    assert found.predict(tiny_llama).logp_S.sum() < found.predict(before).logp_S.sum()


def test_a_network_without_blocks_beside_the_last_layer_is_found():
    """OPT's layers stand in the block, beside attention."""
    block = nn.ModuleDict({"attention": nn.ModuleDict({"q": nn.Linear(2, 2)}), "fc1": nn.Linear(2, 4)})
    block["fc2"] = nn.Linear(4, 2)
    model = nn.ModuleDict({"layers": nn.ModuleList([block])})
    assert list(mlp_weights(model, "test")) == ["layers.0.fc1.weight", "layers.0.fc2.weight"]


def test_a_scope_without_its_matrices_is_refused(tiny_llama, sets, tmp_path):
    for name, parameter in tiny_llama.named_parameters():
        parameter.requires_grad_("mlp" not in name)
    with pytest.raises(PlanError, match=r"rep_select edits .* none of them may move \(first: model.layers.0.mlp"):
        edited(tiny_llama, sets, tmp_path)


def test_no_damage_is_refused():
    with pytest.raises(PlanError, match=r"rep_select\.budget = 0: .*greater than 0"):
        methods.configure("rep_select", {"budget": 0})
