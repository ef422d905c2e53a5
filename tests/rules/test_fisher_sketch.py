"""The sketch of the Fisher: over all signs its mean is the Fisher, exactly; of a set it is the same at each call."""

from __future__ import annotations

import itertools

import torch
from tests.methods.classes import LinearImages, images

from palimpsest.rules.fisher import fisher_of
from palimpsest.rules.fisher_sketch import signed_sum, sketched_fisher

FAN = [[4.0, 0.0], [0.0, 4.0], [-4.0, -4.0]]


def test_over_all_signs_the_mean_square_is_the_fisher():
    """Two images in one mini-batch, three classes: 2^6 patterns, against one backward pass a label and image."""
    model, both = LinearImages(FAN), images("r", [[120, 40], [30, 90]], [0, 1])
    parameters = [*model.parameters()]
    total = [torch.zeros_like(p) for p in parameters]
    for pattern in itertools.product((-1.0, 1.0), repeat=6):
        said = both.batch(both.ids).predict(model)
        found = torch.autograd.grad(signed_sum(said, torch.tensor(pattern).view(2, 3)), parameters)
        for into, gradient in zip(total, found, strict=True):
            into.add_(gradient.square() / 64)
    wanted = fisher_of(model, both, limit=2, labels="model", draws=1)
    for (_, exact), square in zip(wanted.items(), total, strict=True):
        assert torch.allclose(square / 2, exact, rtol=1e-4, atol=1e-9)


def test_of_a_set_it_is_near_the_exact_one_whatever_was_drawn_before():
    torch.manual_seed(1)
    pixels, labels = torch.randint(0, 256, (400, 2)).tolist(), torch.randint(0, 3, (400,)).tolist()
    model, many = LinearImages(FAN), images("r", pixels, labels)
    exact = fisher_of(model, many, limit=400, labels="model", draws=1)
    torch.manual_seed(5)
    found = sketched_fisher(model, many, limit=400, batch_size=4)
    again = sketched_fisher(model, many, limit=400, batch_size=4)
    for name, values in exact.items():
        assert torch.equal(found[name], again[name])
        assert ((found[name] - values).abs() < 0.5 * values.mean()).all()
    assert model.training  # as it was
