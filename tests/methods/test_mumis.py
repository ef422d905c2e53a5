"""MU-Mis: sensitivities of a linear model and by differences, the second gradient, its own end, what is refused."""

from __future__ import annotations

import pytest
import torch
from tests.methods.classes import LinearImages, images
from torch import nn

from palimpsest import methods
from palimpsest.contract import Phase
from palimpsest.errors import PlanError
from palimpsest.methods.mumis import MUMis, sensitivity
from palimpsest.models.entries import predict_with_entry
from palimpsest.rules.own_step import OptimizerStep

PHASE = Phase("suppress", ("forget",))
FAN = [[4.0, 0.0], [0.0, 3.0], [-1.0, -2.0]]


class Curved(LinearImages):
    """logits = W tanh(x): the sensitivity depends on x."""

    def forward(self, pixel_values):
        return super().forward(pixel_values.tanh())


@pytest.fixture
def forget():
    return images("f", [[250, 10], [60, 200], [140, 120]], [0, 1, 2])


def built(model, forget, **options):
    method = MUMis(methods.configure("mumis", options))
    method.prepare(model, {"forget": forget})
    return method


def test_of_a_linear_model_it_is_the_square_of_the_row(forget):
    said, entry = predict_with_entry(LinearImages(FAN), forget.batch(forget.ids))
    assert sensitivity(said, said.target_S, entry).tolist() == pytest.approx([16.0, 9.0, 5.0])


def test_by_differences(forget):
    model, h = Curved(FAN).double(), 1e-5
    batch = forget.batch(forget.ids)
    said, entry = predict_with_entry(model, type(batch)(batch.ids, batch.images_BCHW.double(), batch.label_B))
    found = sensitivity(said, said.target_S, entry)
    for row, label in enumerate(batch.label_B.tolist()):
        total = 0.0
        for pixel in range(2):
            sides = []
            for sign in (1, -1):
                x = batch.images_BCHW[row : row + 1].double().clone()
                x.view(-1)[pixel] += sign * h
                sides.append(model(x).logits[0, label].item())
            total += ((sides[0] - sides[1]) / (2 * h)) ** 2
        assert found[row].item() == pytest.approx(total, rel=1e-5)


def test_the_gradient_of_the_gap_by_hand():
    """Two classes, one image: ∂(‖w_0‖² − ‖w_1‖²) = (2 w_0, −2 w_1)."""
    model, forget = LinearImages([[4.0, 1.0], [2.0, 3.0]]), images("f", [[250, 10]], [0])
    method = built(model, forget)
    method.phases(0, 10)
    terms = method.loss(model, {"forget": forget.batch(("f0",))}, PHASE)
    terms["gap"].total.backward()
    assert terms["gap"].total.item() == pytest.approx(17 - 13)
    assert model.linear.weight.grad.tolist() == [[8.0, 2.0], [-4.0, -6.0]]
    assert terms["gap"].per == "example"


def stepped(method: MUMis, model: nn.Module, batch, planned: int, count: int) -> list[torch.Tensor]:
    optimizer, seen = torch.optim.SGD(model.parameters(), lr=0.02), []
    for step in range(count):
        (phase,) = method.phases(step, planned)
        optimizer.zero_grad()
        (method.loss(model, {"forget": batch}, phase)["gap"].total / len(batch)).backward()
        method.update(model, phase, OptimizerStep(optimizer))
        seen.append(model.linear.weight.detach().clone())
    return seen


def test_it_ends_by_its_own_rule_at_a_fixed_rate_and_never_in_a_controlled_run():
    weight, forget = [[4.0, 1.0], [2.0, 3.0]], images("f", [[250, 10]], [0])
    batch = forget.batch(("f0",))
    fixed, model = built(LinearImages(weight), forget), LinearImages(weight)
    seen = stepped(fixed, model, batch, planned=100, count=40)
    assert torch.equal(seen[-1], seen[-2])
    gaps = [(w[0].square().sum() - w[1].square().sum()).item() for w in (torch.tensor(weight), *seen)]
    first_there = next(k for k, gap in enumerate(gaps) if gaps[0] - gap >= 17)
    assert torch.equal(seen[-1], seen[first_there - 1])  # the step that saw it is not taken
    assert fixed.diagnostics(0.0)["ended"] == 1.0
    guided, model = built(LinearImages(weight), forget), LinearImages(weight)
    seen = stepped(guided, model, batch, planned=10**6, count=40)
    assert not torch.equal(seen[-1], seen[-2])


def test_what_it_saw_goes_through_a_checkpoint(forget):
    model = LinearImages(FAN)
    method, other = built(model, forget), built(model, forget)
    stepped(method, model, forget.batch(forget.ids), planned=100, count=3)
    other.load_state(method.state())
    assert other.state().keys() == method.state().keys()
    for name, tensor in method.state().items():
        assert torch.equal(other.state()[name], tensor)


def test_no_fall_at_all_is_refused():
    with pytest.raises(PlanError, match=r"mumis\.stop = 0: .*greater than 0"):
        methods.configure("mumis", {"stop": 0})
