"""Influence: the inverse against a dense one, Newton's step against retraining, both limits of the damping."""

from __future__ import annotations

import copy

import pytest
import torch
from tests.methods.classes import Before, LinearImages, images
from torch import nn

from palimpsest import methods
from palimpsest.errors import PlanError
from palimpsest.methods.influence import Influence, inverse_times, summed_gradient
from palimpsest.rules.damage_budget import Damage

FAN = [[4.0, 0.0], [0.0, 4.0], [-4.0, -4.0]]


@pytest.fixture
def sets():
    torch.manual_seed(0)
    forget = images("f", torch.randint(0, 256, (4, 2)).tolist(), [0, 1, 2, 0])
    retain = images("r", torch.randint(0, 256, (60, 2)).tolist(), torch.randint(0, 3, (60,)).tolist())
    return {"forget": forget, "retain": retain}


def edited(model, sets, **options):
    method = Influence(methods.configure("influence", options), Before(copy.deepcopy(model)))
    method.prepare(model, sets)
    return method, method.edit(model, sets)


@pytest.mark.parametrize("damping", [1e-3, 1.0, 100.0])
def test_woodbury_is_the_dense_inverse(damping):
    torch.manual_seed(0)
    G, v = torch.randn(5, 12, dtype=torch.float64), torch.randn(12, dtype=torch.float64)
    ridge = damping * (G @ G.T).diagonal().mean()
    wanted = torch.linalg.inv(G.T @ G + ridge * torch.eye(12, dtype=torch.float64)) @ v
    assert torch.allclose(inverse_times(G, v, damping), wanted, rtol=1e-6)


def test_with_much_damping_it_is_the_gradient_and_with_little_it_leaves_the_sketches_alone():
    torch.manual_seed(0)
    G, v = torch.randn(5, 12, dtype=torch.float64), torch.randn(12, dtype=torch.float64)
    much, little = inverse_times(G, v, 1e6), inverse_times(G, v, 1e-9)
    assert torch.cosine_similarity(much, v, dim=0) > 1 - 1e-9
    assert (G @ little / little.norm()).abs().max() < 1e-6


def test_the_gradient_is_the_sum_over_examples(sets):
    model = LinearImages(FAN)
    found = summed_gradient(model, dict(model.named_parameters()), sets["forget"])
    total = torch.zeros(3, 2)
    for name in sets["forget"].ids:
        batch = sets["forget"].batch((name,))
        x, p = batch.images_BCHW.flatten(), batch.predict(model).logits_SV.detach().softmax(1)[0]
        total += torch.outer(p - torch.eye(3)[int(batch.label_B)], x)
    assert torch.allclose(found[:6].view(3, 2), total, atol=1e-5)


def optimum(sets, *names):
    """The optimum of the summed loss with a little decay, by Newton's method of torch."""
    model = LinearImages([[0.0, 0.0]] * 3)
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=200, line_search_fn="strong_wolfe", tolerance_grad=1e-9)

    def closure():
        optimizer.zero_grad()
        loss = sum(-sets[n].batch(sets[n].ids).predict(model).logp_S.sum() for n in names)
        loss = loss + 1e-3 * sum(p.square().sum() for p in model.parameters())
        loss.backward()
        return loss

    optimizer.step(closure)
    return model


def test_newtons_step_lands_near_the_optimum_without_the_forget_set(sets):
    """The labels are noise, so that the Fisher is the Hessian; what is left of the way is what signs leave."""
    whole, wanted = optimum(sets, "forget", "retain"), optimum(sets, "retain")
    method, _ = edited(stepped := copy.deepcopy(whole), sets, step=1.0, damping=1e-4, sketches=60, sketch_batch=1)

    def logits(model: nn.Module) -> torch.Tensor:
        return sets["retain"].batch(sets["retain"].ids).predict(model).logits_SV.detach().log_softmax(1)

    before, after = ((logits(model) - logits(wanted)).norm() for model in (whole, stepped))
    assert after < 0.6 * before
    assert method.diagnostics(0.0) == {"size": 1.0}


def test_the_budget_is_used_and_forget_is_known_less(sets):
    model = optimum(sets, "forget", "retain")
    before = copy.deepcopy(model)
    method, named = edited(model, sets, budget=1e-3)
    assert named == ["linear.bias", "linear.weight"]
    damage = Damage(lambda _m, batch: batch.predict(before), sets["retain"], 256)(model)
    assert 0.94e-3 <= damage <= 1.01e-3
    known = sets["forget"].batch(sets["forget"].ids)
    assert known.predict(model).logp_S.sum() < known.predict(before).logp_S.sum()
    assert method.diagnostics(0.0)["size"] > 0


def test_no_damping_is_refused():
    with pytest.raises(PlanError, match=r"influence\.damping = 0: .*greater than 0"):
        methods.configure("influence", {"damping": 0})
