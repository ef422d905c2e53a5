"""What every kind of part must pass; the folder says which there are."""

from __future__ import annotations

import copy
import inspect
from pathlib import Path

import pytest
import torch
from torch import nn

from palimpsest.errors import ModelError
from palimpsest.models import parts
from palimpsest.models.load import load
from palimpsest.models.parts.with_parts import folded, write_version

PLACE = "model.layers.1.self_attn.q_proj"
# Those that act on images have their own: tests/models/parts/test_of_images.py.
KINDS = [kind for kind in parts.names() if not parts.load(kind).of_images]
EXACT = 1e-4


def said(model: nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=torch.arange(12).reshape(2, 6)).logits.clone()


@pytest.fixture(params=KINDS)
def part(request):
    """One of each kind, with every number moved from where it starts."""
    kind = parts.load(request.param)
    torch.manual_seed(0)
    made = kind(kind.example(PLACE, 32))
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape))
    return made


def test_off_and_alpha_zero_are_the_model_without_it(part, tiny_llama):
    plain = said(tiny_llama)
    parts.attach(tiny_llama, [part])
    assert not torch.equal(said(tiny_llama), plain)
    with parts.off(tiny_llama):
        assert torch.equal(said(tiny_llama), plain)
    part.alpha = 0
    assert torch.equal(said(tiny_llama), plain)
    part.alpha = 1
    parts.detach(tiny_llama)
    assert torch.equal(said(tiny_llama), plain)


def test_saved_loaded_and_copied_it_answers_the_same(part, tiny_llama, tmp_path):
    part.alpha = 0.5
    parts.attach(tiny_llama, [part])
    wanted = said(tiny_llama)
    assert torch.equal(said(copy.deepcopy(tiny_llama)), wanted)
    write_version(tiny_llama, tmp_path / "v")
    found = load(tmp_path / "v", tokenizer_needed=False).model
    assert torch.equal(said(found), wanted)
    (again,) = parts.parts_of(found)
    assert (again.kind, again.config, again.alpha) == (part.kind, part.config, 0.5)


@pytest.mark.parametrize("alpha", [1.0, 0.5, -1.0])
def test_folded_it_answers_the_same_or_every_weight_is_as_it_was(alpha, part, tiny_llama):
    part.alpha = alpha
    before = copy.deepcopy(tiny_llama.state_dict())
    parts.attach(tiny_llama, [part])
    wanted = said(tiny_llama)
    if folded(tiny_llama, every=True):
        assert not parts.parts_of(tiny_llama)
        assert (said(tiny_llama) - wanted).abs().max() < EXACT
    else:
        assert torch.equal(said(tiny_llama), wanted)
        assert all(torch.equal(tiny_llama.state_dict()[name], tensor) for name, tensor in before.items())


def test_gradients_reach_every_number(part, tiny_llama):
    if not list(part.parameters()):
        assert list(part.buffers())  # it is fitted, not trained
        return
    parts.attach(tiny_llama.requires_grad_(False), [part.requires_grad_(True)])
    logits = tiny_llama(input_ids=torch.arange(12).reshape(2, 6)).logits
    pull = getattr(part, "pull", lambda: None)()  # of keys by which a hard choice is made
    (logits.square().sum() + (0 if pull is None else pull.sum())).backward()
    assert all(p.grad is not None and p.grad.any() for p in part.parameters())


def test_a_place_that_is_not_there_is_refused(part, tiny_llama):
    if not part.places:
        parts.attach(tiny_llama, [part])  # it acts on the model as a whole
        return
    elsewhere = type(part)(type(part).example("model.layers.9.mlp", 32))
    with pytest.raises(ModelError, match="has no module 'model.layers.9.mlp'"):
        parts.attach(tiny_llama, [elsewhere])


def test_it_is_told_what_it_is(part):
    assert part.__doc__
    assert (inspect.getmodule(type(part)).__doc__ or "").strip()
    file = f"test_{part.kind}.py"
    assert (Path(__file__).parents[1] / "models" / "parts" / file).is_file(), f"tests/models/parts/{file} is missing"
