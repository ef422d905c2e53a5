"""The reference of a run that adds parts is the model without them, whatever else is on it or moves."""

from __future__ import annotations

import copy

import pytest
import torch
from tests.models.test_reference import logits_of, ragged_set

from palimpsest.errors import ModelError
from palimpsest.models import parts
from palimpsest.models.reference import AdapterOff, CachedReference, PartsOff, build_reference
from palimpsest.models.scope import Scope, apply_scope, trainable

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
EXAMPLES = ragged_set()
BATCH = EXAMPLES.batch(list(EXAMPLES.ids))


def nudges(seed: int):
    torch.manual_seed(seed)
    kind = parts.load("nudge")
    return [kind(kind.Config(at=f"model.layers.{i}.mlp", width=32)) for i in range(2)]


@pytest.fixture
def bearing(own_parts, tiny_llama):
    """A model with two parts of an earlier request, what it says, and two new ones that it now bears, too."""
    parts.attach(tiny_llama, nudges(0))
    before = logits_of(tiny_llama, BATCH)
    new = nudges(1)
    for part in new:
        part.is_new = True
    return parts.attach(tiny_llama, new), before


def move(model) -> None:
    with torch.no_grad():
        for parameter in trainable(model).values():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3)))


@pytest.mark.parametrize(
    ("scope", "kind"),
    [
        (Scope(kind="parts"), PartsOff),
        (Scope(kind="lora", rank=2), PartsOff),
        (Scope(kind="all"), CachedReference),
        (Scope(kind="layers", names=("lm_head|embed",)), CachedReference),
    ],
    ids=lambda value: getattr(value, "kind", ""),
)
def test_it_is_the_model_with_the_earlier_parts_alone(scope, kind, bearing, tmp_path):
    model, before = bearing
    model = apply_scope(model, scope)
    reference = build_reference(model, {"forget": EXAMPLES}, tmp_path)
    assert isinstance(reference, kind)
    move(model)
    assert not torch.allclose(logits_of(model, BATCH), before)
    said = reference.predict(model, BATCH).logits_SV
    torch.testing.assert_close(said, before, rtol=0, atol=0 if kind is PartsOff else 1e-5)
    assert not parts.parts_of(model)[0].is_off


@pytest.mark.parametrize("scope", [Scope(kind="all"), Scope(kind="layers", names=("weight",)), Scope(kind="lora")])
def test_parts_of_earlier_requests_stay_and_new_ones_move(scope, bearing):
    model = apply_scope(bearing[0], scope)
    first, _, third, _ = parts.parts_of(model)
    assert not any(p.requires_grad for p in first.parameters())
    assert all(p.requires_grad for p in third.parameters())


def test_a_name_that_means_earlier_parts_frees_them(bearing):
    model = apply_scope(bearing[0], Scope(kind="layers", names=(r"palimpsest_parts\.0",)))
    first, second, *_ = parts.parts_of(model)
    assert all(p.requires_grad for p in first.parameters())
    assert not any(p.requires_grad for p in second.parameters())


def test_without_new_parts_an_adapter_is_switched_off_as_ever(own_parts, tiny_llama, tmp_path):
    parts.attach(tiny_llama, nudges(0))
    before = logits_of(tiny_llama, BATCH)
    model = apply_scope(tiny_llama, Scope(kind="lora", rank=2))
    reference = build_reference(model, {"forget": EXAMPLES}, tmp_path)
    assert isinstance(reference, AdapterOff)
    move(model)
    assert torch.equal(reference.predict(model, BATCH).logits_SV, before)


def test_parts_alone_need_new_ones(own_parts, tiny_llama):
    parts.attach(tiny_llama, nudges(0))
    with pytest.raises(ModelError, match="the method adds no part"):
        apply_scope(copy.deepcopy(tiny_llama), Scope(kind="parts"))
