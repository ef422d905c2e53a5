"""Mixing with a version with parts: its weights as all others, the parts that only it has by their alpha."""

from __future__ import annotations

import copy

import pytest
import torch
from tests.models.parts.test_with_parts import made, said

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


@pytest.mark.parametrize("alpha", [0.0, 0.25, 1.0])
def test_a_part_that_the_model_after_has_lost_fades(pair, tmp_path, alpha):
    mixture = mixture_of(pair[1], pair[0], tmp_path / "mixing", tokenizer_needed=False)
    with mixture.at(alpha) as model:
        inside = said(model)
        (part,) = parts.parts_of(model)
        assert part.alpha == pytest.approx((1 - alpha) * 0.8)
    assert torch.equal(said(mixture.before.model), said(plain(pair[1])))
    if alpha in (0, 1):
        assert torch.equal(inside, said(plain(pair[1 - int(alpha)])))


@pytest.fixture
def two_versions(pair, tmp_path):
    """Of one model: a part at the same place of either, not alike; before them one that both have."""
    for name, scale in (("one", 1.0), ("other", -2.0)):
        shared, own = made("nudge", "model.layers.0.mlp"), made("nudge", PLACE)
        with torch.no_grad():
            for tensor in own.parameters():
                tensor.mul_(scale)
        write_version(parts.attach(plain(pair[0]), [shared, own]), tmp_path / name)
    return tmp_path / "one", tmp_path / "other"


@pytest.mark.parametrize("alpha", [0.0, 0.25, 1.0])
def test_of_two_versions_each_part_acts_by_its_share(two_versions, tmp_path, alpha):
    mixture = mixture_of(*two_versions, tmp_path / "mixing", tokenizer_needed=False)
    by_hand = plain(two_versions[0])
    other = plain(two_versions[1])
    coming = parts.detach(other)[1]
    parts.parts_of(by_hand)[1].alpha, coming.alpha = 1 - alpha, alpha
    parts.attach(by_hand, [coming])
    with mixture.at(alpha) as model:
        assert len(parts.parts_of(model)) == 3
        assert torch.equal(said(model), said(by_hand))
    with mixture.to_save(alpha) as model:
        assert len(parts.parts_of(model)) == (2 if alpha in (0, 1) else 3)
        write_version(model, tmp_path / "between")
        inside = said(model)
    assert torch.equal(said(plain(tmp_path / "between")), inside)
    if alpha in (0, 1):
        assert torch.equal(inside, said(plain(two_versions[int(alpha)])))
