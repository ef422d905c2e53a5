"""Scale and shift: by hand, where it goes, and that a new one changes nothing."""

from __future__ import annotations

import pytest
import torch
from tests.methods.view_runs import logits, pictures, tiny_vit

from palimpsest.models.parts import attach
from palimpsest.models.parts.scale_shift import ScaledLayer, ScaleShift, ScaleShiftConfig, scaled_layers


def test_goes_behind_every_layer_but_the_head():
    layers = scaled_layers(tiny_vit(), "classifier")
    names = [layer.at for layer in layers]
    assert "classifier" not in names
    a_block = 2 + 4 + 2  # norms, linear layers of the attention and of the network
    assert len(names) == 1 + 2 * a_block + 1  # patches before, a norm behind
    assert ScaledLayer(at="vit.layers.0.mlp.fc1", width=24) in layers


def test_a_new_one_changes_nothing_and_a_moved_one_does():
    model, rows = tiny_vit(), pictures((0, 1))
    plain = logits(model, rows)
    part = ScaleShift(ScaleShiftConfig(layers=scaled_layers(model, "classifier")))
    attach(model, [part])
    assert torch.equal(logits(model, rows), plain)
    part.shift[-1].data.fill_(0.5)
    assert not torch.equal(logits(model, rows), plain)


@pytest.mark.parametrize("picture", [False, True])
def test_by_hand(picture):
    """5 becomes 5 + 0.5 * 5 + 1 in channel 0 and stays in channel 1; channels come first in a picture."""
    layer = torch.nn.Sequential(torch.nn.Identity())
    part = ScaleShift(ScaleShiftConfig(layers=(ScaledLayer(at="0", width=2),)))
    part.gain[0].data, part.shift[0].data = torch.tensor([0.5, 0.0]), torch.tensor([1.0, 0.0])
    layer.register_parameter("kept", torch.nn.Parameter(torch.zeros(1)))
    part.attach(layer)
    said = layer(torch.full((1, 2, 3, 3) if picture else (1, 2), 5.0))
    assert said[:, 0].unique().tolist() == [8.5]
    assert said[:, 1].unique().tolist() == [5.0]
