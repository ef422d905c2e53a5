"""AMUN: adversarial examples against the exact distance to a linear border; its loss by hand; what fitting does."""

from __future__ import annotations

import pytest
import torch
from tests.methods.classes import LinearImages, images

from palimpsest import methods
from palimpsest.contract import Phase
from palimpsest.errors import PlanError
from palimpsest.loop.step import weighted_loss
from palimpsest.methods.amun import AMUN
from palimpsest.models.nearest_wrong import nearest_moved

PHASE = Phase("joint", ("forget", "retain"))
FAN = [[4.0, 0.0], [0.0, 4.0], [-4.0, -4.0]]


@pytest.fixture
def sets():
    forget = images("f", [[250, 10], [60, 200], [140, 120]], [0, 1, 0])
    return {"forget": forget, "retain": images("r", [[200, 20], [20, 220]], [0, 1])}


def built(model, sets, **options):
    method = AMUN(methods.configure("amun", options))
    method.prepare(model, sets)
    return method


def test_the_change_is_at_most_twice_the_way_to_the_nearest_border(sets):
    """For linear logits the way to a border is (z_y − z_c) / ‖w_y − w_c‖; radii double, so 2, and a step."""
    model = LinearImages(FAN)
    W = model.linear.weight.detach()
    for name, (change, labels) in nearest_moved(model, sets["forget"]).items():
        batch = sets["forget"].batch((name,))
        x, y = batch.images_BCHW.flatten(), int(batch.label_B)
        ways = {c: float((W[y] - W[c]) @ x / (W[y] - W[c]).norm()) for c in range(3) if c != y}
        nearest = min(ways, key=ways.__getitem__)
        moved = W @ (x + change.float().flatten())
        assert int(moved.argmax()) != y
        assert ways[nearest] <= change.float().norm().item() * 1.001 <= 2.3 * ways[nearest] + 1e-3
        assert labels.tolist() == [nearest] == [int(moved.argmax())]


def test_an_image_that_is_told_wrong_already_is_not_moved():
    model, forget = LinearImages(FAN), images("f", [[250, 10]], [1])
    change, labels = nearest_moved(model, forget)["f0"]
    assert change.abs().max() == 0
    assert labels.tolist() == [0]


def test_the_terms_by_hand(sets):
    model = LinearImages(FAN)
    method = built(model, sets, retain_weight=0.5, forget_weight=2.0)
    batch = sets["forget"].batch(("f0", "f1"))
    terms = method.loss(model, {"forget": batch, "retain": sets["retain"].batch(("r0",))}, PHASE)
    found, wanted = nearest_moved(model, sets["forget"]), 0.0
    for row, name in enumerate(batch.ids):
        logits = model(batch.images_BCHW[row : row + 1] + found[name].change.float()).logits[0]
        wanted -= logits.log_softmax(0)[int(found[name].labels_S)].item()
    assert terms["adversarial"].total.item() == pytest.approx(wanted, rel=1e-5)
    assert terms["forget"].total.item() == pytest.approx(-batch.predict(model).logp_S.sum().item(), rel=1e-6)
    assert (terms["retain"].weight, terms["forget"].weight) == (0.5, 2.0)


def test_fitting_them_lowers_the_mean_confidence_at_the_images_and_little_elsewhere(sets):
    model = LinearImages([[9.0, 0.0], [0.0, 9.0], [-9.0, -9.0]])
    method = built(model, sets)
    batches = {name: examples.batch(examples.ids) for name, examples in sets.items()}
    before = {name: batch.predict(model).logp_S.exp() for name, batch in batches.items()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    for _ in range(30):
        optimizer.zero_grad()
        weighted_loss(method.loss(model, batches, PHASE), {"adversarial": 3, "retain": 2}).backward()
        optimizer.step()
    after = {name: batch.predict(model).logp_S.exp() for name, batch in batches.items()}
    fallen = {name: (before[name] - after[name]).mean().item() for name in before}
    assert fallen["forget"] > 0.02
    assert fallen["forget"] > 3 * max(0.0, fallen["retain"])


def test_a_negative_weight_is_refused():
    with pytest.raises(PlanError, match=r"amun\.retain_weight = -1: .*greater than or equal to 0"):
        methods.configure("amun", {"retain_weight": -1})
