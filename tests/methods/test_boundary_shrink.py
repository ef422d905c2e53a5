"""Boundary shrink: the nearest wrong class of a linear classifier is the one whose border is nearest."""

from __future__ import annotations

import pytest
import torch
from tests.methods.classes import LinearImages, images

from palimpsest import methods
from palimpsest.contract import Phase
from palimpsest.errors import PlanError
from palimpsest.methods.boundary_shrink import BoundaryShrink
from palimpsest.models.nearest_wrong import nearest_labels, signed_labels

PHASE = Phase("joint", ("forget",))
# Three classes: 0 on the right, 1 above, 2 on the left. (x, y) of an image are its two pixels.
FAN = [[4.0, 0.0], [0.0, 4.0], [-4.0, -4.0]]


def test_the_label_is_that_of_the_nearest_border_not_the_likeliest_elsewhere():
    """At (0.8, 0.2) class 1 is 2.4 logits behind and class 2 is 7.2: 1. At (0.2, 0.8), of class 1, it is 0."""
    model, forget = LinearImages(FAN), images("f", [[204, 51], [51, 204]], [0, 1])
    found = nearest_labels(model, forget)
    assert {name: labels.tolist() for name, labels in found.items()} == {"f0": [1], "f1": [0]}


def test_by_brute_force_over_radii():
    """The first radius of the grid at which the likeliest class is another one, with loops, for random images."""
    torch.manual_seed(0)
    model = LinearImages(torch.randn(5, 2).mul(6).tolist(), torch.randn(5).tolist())
    forget = images("f", torch.randint(0, 256, (12, 2)).tolist(), [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 1])
    batch = forget.batch(forget.ids)
    size = batch.images_BCHW.square().mean().sqrt()
    for row, found in enumerate(signed_labels(model, batch).tolist()):
        x, y = batch.images_BCHW[row].flatten(), int(batch.label_B[row])
        W, b = model.linear.weight.detach(), model.linear.bias.detach()
        p = (W @ x + b).softmax(0)
        gradient = sum(p[c] * W[c] for c in range(5)) - W[y]
        for radius in [2.0**k for k in range(-8, 2)]:
            z = W @ (x + radius * size * gradient.sign()) + b
            if int(z.argmax()) != y:
                break
        wrong = max((c for c in range(5) if c != y), key=lambda c: float(z[c]))
        assert found == wrong, row


def test_the_loss_is_of_the_nearest_label_at_the_image_itself():
    model, forget = LinearImages(FAN), images("f", [[204, 51]], [0])
    method = BoundaryShrink(methods.configure("boundary_shrink", {}))
    method.prepare(model, {"forget": forget})
    terms = method.loss(model, {"forget": forget.batch(("f0",))}, PHASE)
    logits = torch.tensor([3.2, 0.8, -4.0])
    assert terms["nearest"].total.item() == pytest.approx(-logits.log_softmax(0)[1].item(), rel=1e-5)


def test_the_labels_are_those_of_the_model_before(tmp_path):
    """The label is found once: what the run makes of the model does not change it."""
    model, forget = LinearImages(FAN), images("f", [[204, 51]], [0])
    method = BoundaryShrink(methods.configure("boundary_shrink", {}))
    method.prepare(model, {"forget": forget})
    with torch.no_grad():
        model.linear.bias[2] += 50.0
    terms = method.loss(model, {"forget": forget.batch(("f0",))}, PHASE)
    assert terms["nearest"].total.item() > 40  # of class 1, far below class 2 by now


def test_each_label_token_of_a_text_has_a_wrong_one(tiny_llama):
    from tests.contract.test_methods import random_set

    texts = random_set("f", 3, 1)
    found = nearest_labels(tiny_llama, texts)
    for name in texts.ids:
        batch = texts.batch((name,))
        assert found[name].shape == batch.target_S.shape
        assert not (found[name] == batch.target_S).any()


def test_options_are_refused():
    with pytest.raises(PlanError, match="unknown option of boundary_shrink 'epsilon'"):
        methods.configure("boundary_shrink", {"epsilon": 0.1})
