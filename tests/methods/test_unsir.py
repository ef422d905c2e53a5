"""UNSIR: its noise is told less than chance, one for each place, and learning it takes a class away."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from tests.methods.classes import LinearImages, images

from palimpsest import methods
from palimpsest.errors import PlanError
from palimpsest.loop.step import weighted_loss
from palimpsest.methods.unsir import UNSIR, error_maximising, noise_places, padded

FAN = [[4.0, 0.0], [0.0, 4.0], [-4.0, -4.0]]


@pytest.fixture
def sets():
    forget = images("f", [[250, 10], [230, 5], [200, 30]], [0, 0, 0])
    return {"forget": forget, "retain": images("r", [[10, 250], [5, 200], [0, 0], [10, 5]], [1, 1, 2, 2])}


def built(model, sets, **options):
    method = UNSIR(methods.configure("unsir", options))
    method.prepare(model, sets)
    return method


def test_the_noise_is_what_the_model_takes_least_for_the_class(sets):
    """Of class 0, told by its first pixel, noise ends with that pixel far below the others' side."""
    model, batch = LinearImages(FAN), sets["forget"].batch(("f0", "f1", "f2"))
    config = methods.configure("unsir", {"noise_steps": 60})
    noise = error_maximising(model, batch, config, torch.Generator().manual_seed(0))
    p_B = model(noise).logits.softmax(1)[:, 0]
    assert noise.shape == batch.images_BCHW.shape
    assert (p_B < 0.05).all()
    assert (batch.predict(model).logp_S.exp() > 0.8).all()
    assert all(p.grad is None for p in model.parameters())


def test_a_heavy_penalty_keeps_the_noise_small(sets):
    model, batch = LinearImages(FAN), sets["forget"].batch(sets["forget"].ids)
    sizes = []
    for weight in (0.0, 100.0):
        config = methods.configure("unsir", {"noise_steps": 60, "noise_weight": weight})
        sizes.append(error_maximising(model, batch, config, torch.Generator().manual_seed(0)).norm())
    assert sizes[1] < 0.3 * sizes[0]


def test_places_of_a_class_share_its_noises_evenly():
    many = images("f", [[0, 0]] * 10, [0] * 6 + [1] * 4)
    found = noise_places(many, 2)
    assert set(found) == set(many.ids)
    labels = dict(zip(many.ids, many.label_N.tolist(), strict=True))
    assert all(labels[place] == labels[like] for place, like in found.items())
    assert sorted(Counter(found.values()).values()) == [2, 2, 3, 3]


def test_ragged_noises_are_filled_at_the_end():
    assert padded([torch.ones(2, 1), torch.ones(1, 1)]).flatten().tolist() == [1, 1, 1, 0]


def test_impairing_steps_take_the_class_away_without_a_look_at_its_images(sets):
    model = LinearImages(FAN, [0.0, 0.0, 2.0])
    method = built(model, sets)
    impair = method.stages({"forget": 3, "retain": 4})[0].phases[0]
    batches = {name: examples.batch(examples.ids) for name, examples in sets.items()}
    before = {name: batch.predict(model).logp_S.mean().item() for name, batch in batches.items()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    for _ in range(150):
        optimizer.zero_grad()
        weighted_loss(method.loss(model, batches, impair), {"noise": 3, "retain": 4}).backward()
        optimizer.step()
    after = {name: batch.predict(model).logp_S.mean().item() for name, batch in batches.items()}
    assert after["forget"] < before["forget"] - 0.5
    assert after["retain"] > before["retain"] - 0.1


def test_repair_looks_at_retain_alone(sets):
    model = LinearImages(FAN)
    method = built(model, sets)
    repair = method.stages({"forget": 3, "retain": 4})[1].phases[0]
    assert repair.sets == ("retain",)
    assert list(method.loss(model, {"retain": sets["retain"].batch(("r0",))}, repair)) == ["retain"]


def test_no_noise_is_refused():
    with pytest.raises(PlanError, match=r"unsir\.noises = 0: .*greater than or equal to 1"):
        methods.configure("unsir", {"noises": 0})
