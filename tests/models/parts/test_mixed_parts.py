"""Mixing with a version with parts: its weights as all others, the parts that only it has by their alpha."""

from __future__ import annotations

import copy

import pytest
import torch
from tests.models.parts.test_with_parts import made, said

from palimpsest.errors import ModelError
from palimpsest.models import parts
from palimpsest.models.load import load
from palimpsest.models.mixture import mixture_of
from palimpsest.models.parts.with_parts import write_version

PLACE = "model.layers.1.mlp"


@pytest.fixture
def pair(own_parts, tiny_llama, tmp_path):
    """Before: plain. After: other weights, and a part learned with alpha 0.8."""
    tiny_llama.save_pretrained(tmp_path / "before")
    other = copy.deepcopy(tiny_llama)
    with torch.no_grad():
        other.model.layers[0].mlp.up_proj.weight.mul_(1.5)
    part = made("nudge", PLACE)
    part.alpha = 0.8
    write_version(parts.attach(other, [part]), tmp_path / "after")
    return tmp_path / "before", tmp_path / "after"


def plain(folder):
    return load(folder, tokenizer_needed=False).model


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_new_parts_are_scaled_beside_the_mixed_weights(pair, tmp_path, alpha):
    mixture = mixture_of(*pair, tmp_path / "mixing", tokenizer_needed=False)
    by_hand = plain(pair[0])
    with torch.no_grad():
        by_hand.model.layers[0].mlp.up_proj.weight.mul_((1 - alpha) + alpha * 1.5)
    part = made("nudge", PLACE)
    part.alpha = alpha * 0.8
    parts.attach(by_hand, [part])
    with mixture.at(alpha) as model:
        torch.testing.assert_close(said(model), said(by_hand))
        write_version(model, tmp_path / "between")
        inside = said(model)
    assert torch.equal(said(mixture.before.model), said(plain(pair[0])))
    assert torch.equal(said(plain(tmp_path / "between")), inside)
    if alpha == 1:
        assert torch.equal(inside, said(plain(pair[1])))


def test_a_part_that_the_model_after_has_lost_is_refused(pair, tmp_path):
    with pytest.raises(ModelError, match="parts that the other has not"):
        mixture_of(pair[1], pair[0], tmp_path / "mixing", tokenizer_needed=False)
