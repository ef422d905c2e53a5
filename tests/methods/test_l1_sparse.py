"""l1-sparse: both terms by hand, however a step is cut; the decay; without a factor it is fine-tuning."""

from __future__ import annotations

import pytest
import torch
from tests.methods.classes import LinearImages, images

from palimpsest import methods
from palimpsest.errors import PlanError
from palimpsest.loop.step import weighted_loss
from palimpsest.methods.l1_sparse import L1Sparse, l1_norm

FAN = [[4.0, 0.0], [0.0, 4.0], [-4.0, -4.0]]


@pytest.fixture
def retain():
    return images("r", [[250, 20], [20, 250], [0, 0]], [0, 1, 2])


def built(model, retain, **options):
    method = L1Sparse(methods.configure("l1_sparse", options))
    method.prepare(model, {"retain": retain})
    return method


def test_both_terms_by_hand(retain):
    """Σ|θ| = 4 · 4 = 16 whatever the batch, and the mean of −log p."""
    model = LinearImages(FAN)
    method = built(model, retain, gamma=0.01)
    (phase,) = method.phases(0, 10)
    batch = retain.batch(retain.ids)
    loss = weighted_loss(method.loss(model, {"retain": batch}, phase), {"retain": 3, "l1": 3})
    assert loss.item() == pytest.approx(-batch.predict(model).logp_S.mean().item() + 0.01 * 16, rel=1e-6)


def test_the_norm_counts_once_however_a_step_is_cut(retain):
    model = LinearImages(FAN)
    method = built(model, retain)
    (phase,) = method.phases(0, 10)
    parts = [method.loss(model, {"retain": retain.batch(ids)}, phase)["l1"].total for ids in (("r0", "r1"), ("r2",))]
    assert (sum(parts) / 3).item() == pytest.approx(l1_norm(model.parameters()).item(), rel=1e-6)


def test_the_factor_falls_to_nothing_and_stands_where_the_end_is_not_known(retain):
    method = built(LinearImages(FAN), retain)
    assert [method.phases(step, 4)[0].scale for step in range(5)] == [1.0, 0.75, 0.5, 0.25, 0.0]
    assert method.phases(40, 10**6)[0].scale == pytest.approx(1.0, abs=1e-4)


def test_weights_that_may_not_move_do_not_count(retain):
    model = LinearImages(FAN, [7.0, 7.0, 7.0])
    model.linear.bias.requires_grad_(False)
    method = built(model, retain)
    total = method.loss(model, {"retain": retain.batch(("r0",))}, method.phases(0, 1)[0])["l1"].total
    assert total.item() == 16.0


def test_what_nothing_needs_falls_to_zero_and_the_rest_stays_right(retain):
    """A fourth class that retain lacks: its row goes, while the three others are told as before."""
    model = LinearImages([*FAN, [3.0, 3.0]], [0.0, 0.0, 2.0, -1.0])
    method = built(model, retain, gamma=0.1)
    batch, optimizer = retain.batch(retain.ids), torch.optim.SGD(model.parameters(), lr=0.2)
    for step in range(400):
        optimizer.zero_grad()
        terms = method.loss(model, {"retain": batch}, method.phases(step, 400)[0])
        weighted_loss(terms, {"retain": 3, "l1": 3}).backward()
        optimizer.step()
    assert (batch.predict(model).logits_SV.argmax(1) == batch.target_S).all()
    rows = model.linear.weight.detach().abs().sum(1)
    assert rows[3] < 0.5 * rows[:2].min()


def test_without_a_factor_it_is_fine_tuning(retain):
    model = LinearImages(FAN)
    method = built(model, retain, gamma=0.0)
    batch = retain.batch(retain.ids)
    loss = weighted_loss(method.loss(model, {"retain": batch}, method.phases(0, 9)[0]), {"retain": 3, "l1": 3})
    assert loss.item() == pytest.approx(-batch.predict(model).logp_S.mean().item(), rel=1e-6)


def test_a_negative_factor_is_refused():
    with pytest.raises(PlanError, match=r"l1_sparse\.gamma = -1: .*greater than or equal to 0"):
        methods.configure("l1_sparse", {"gamma": -1})
