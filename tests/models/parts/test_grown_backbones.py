"""Grown backbones: the features of two models side by side, what stands still, what is saved, and what is refused."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from tests.models.parts.grown_models import bert, images, resnet, texts, vit, whole

from palimpsest.data.encode.batch import predict_together
from palimpsest.errors import ModelError
from palimpsest.models.families import of_model
from palimpsest.models.load import load
from palimpsest.models.parts import attach, detach, off, parts_of
from palimpsest.models.parts.backbone_growth import (
    freeze_all_but_new,
    head_of,
    names_before_head,
    names_of_last_blocks,
    new_backbone,
    take_its_place,
)
from palimpsest.models.parts.with_parts import write_version

MODELS = {
    "resnet": (resnet, images("i", [0, 1, 2, 3, 1])),
    "vit": (vit, images("i", [0, 1, 2, 3, 1])),
    "bert": (bert, texts("t", [0, 1, 2, 3, 1])),
}


@pytest.fixture(params=MODELS)
def kind(request):
    make, rows = MODELS[request.param]
    return make(), whole(rows)


def said(model, batch):
    with torch.no_grad():
        return batch.predict(model).logits_SV.clone()


def features(model, batch):
    with torch.no_grad():
        return of_model(model).features(model, batch)


def stirred(part, seed):
    """Every number of it moved, running statistics too; variances stay positive."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in (*part.parameters(), *part.statistics.buffers()):
            if tensor.is_floating_point():
                tensor.add_(0.1 * torch.rand(tensor.shape, generator=generator))
    return part


def grown(model, names=None, seed=1, **options):
    part = stirred(new_backbone(model, names or names_before_head(model), **options), seed)
    attach(model, [part])
    return part


def twin_of(model, part):
    """Another whole model, with the part's tensors as its own."""
    twin = copy.deepcopy(model)
    detach(twin)
    state = twin.state_dict()
    twin.load_state_dict({**state, **{n: t.detach() for n, t in part.tensors().items() if n in state}})
    return twin


def test_a_new_backbone_says_nothing_at_first(kind):
    model, batch = kind
    before = said(model, batch)
    attach(model, [new_backbone(model, names_before_head(model))])
    assert torch.equal(said(model, batch), before)


def test_logits_are_a_wide_head_over_the_features_of_three_models(kind):
    model, batch = kind
    plain = copy.deepcopy(model)
    first = grown(model, seed=1)
    second = grown(model, seed=2)
    assert second.config.reads == (0, 1)
    f0, f1, f2 = (features(one, batch) for one in (plain, twin_of(model, first), twin_of(model, second)))
    head = head_of(plain)
    wanted = F.linear(f0, head.weight, head.bias)
    wanted = wanted + torch.cat([f0, f1], 1) @ first.columns.T + first.bias
    wanted = wanted + torch.cat([f0, f1, f2], 1) @ second.columns.T + second.bias
    assert torch.allclose(said(model, batch), wanted, atol=1e-5)


def test_dropped_it_is_the_model_before_and_for_later_ones_it_is_zero(kind):
    model, batch = kind
    plain = copy.deepcopy(model)
    first = grown(model, seed=1)
    with_one = said(model, batch)
    second = grown(model, seed=2)
    with off(model, [second]):
        assert torch.equal(said(model, batch), with_one)
    f0, f2 = features(plain, batch), features(twin_of(model, second), batch)
    detach(model, [first])
    wanted = said(plain, batch) + torch.cat([f0, torch.zeros_like(f0), f2], 1) @ second.columns.T + second.bias
    assert torch.allclose(said(model, batch), wanted, atol=1e-5)


def test_a_step_moves_the_new_one_alone_and_counts_its_batches_alone(kind):
    model, batch = kind
    grown(model)
    new = grown(model, seed=2)
    new.is_new = True
    before = copy.deepcopy(model.state_dict())
    freeze_all_but_new(model)
    model.train()
    for _ in range(2):
        predict_together(model, {"learn": batch})["learn"].logp_S.sum().neg().backward()
        with torch.no_grad():
            for parameter in (p for p in model.parameters() if p.requires_grad):
                parameter.sub_(1e-3 * parameter.grad)
    moved = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert moved
    assert all(name.startswith("palimpsest_parts.1.") for name in moved)
    for name, buffer in new.statistics.named_buffers():
        if name.endswith("num_batches_tracked"):
            assert int(buffer) == 2
            assert f"palimpsest_parts.1.statistics.{name.replace('num_batches_tracked', 'running_mean')}" in moved


def test_in_training_it_normalises_by_the_batch_as_the_model_would():
    model, batch = resnet(), whole(MODELS["resnet"][1])
    part = grown(model)
    part.is_new = True
    freeze_all_but_new(model)
    twin = twin_of(model, part).train().requires_grad_(True)
    model.train()
    with part.telling() as told, torch.no_grad():
        batch.predict(model)
    assert torch.allclose(told[-1], features(twin, batch), atol=1e-6)
    tensors, its = part.tensors(), twin.state_dict()
    assert all(torch.allclose(tensors[name].float(), its[name].float(), atol=1e-6) for name in tensors)


def test_a_batch_that_may_not_move_statistics_moves_none():
    model, rows = resnet(), MODELS["resnet"][1]
    part = grown(model)
    part.is_new = True
    freeze_all_but_new(model)
    before = copy.deepcopy(part.statistics.state_dict())
    model.train()
    one = rows.batch(rows.ids[:1])
    with part.telling() as told, torch.no_grad():
        one.predict(model)
    assert torch.allclose(told[-1], features(twin_of(model, part), one), atol=1e-6)
    assert all(torch.equal(tensor, before[name]) for name, tensor in part.statistics.state_dict().items())


def test_the_last_blocks_alone_are_new(kind):
    model, batch = kind
    names = names_of_last_blocks(model, 1)
    assert 0 < len(names) < len(names_before_head(model))
    plain, part = copy.deepcopy(model), grown(model, names)
    assert set(part.tensors()) == set(names)
    f1 = features(twin_of(model, part), batch)
    wanted = said(plain, batch) + torch.cat([features(plain, batch), f1], 1) @ part.columns.T + part.bias
    assert torch.allclose(said(model, batch), wanted, atol=1e-5)


@pytest.mark.parametrize(
    ("make", "first", "not_in"),
    [(resnet, "layer3.0.conv1.weight", "layer2."), (vit, "vit.layers.1.", "layers.0."), (bert, "bert.encoder.layer.1.",
     "layer.0.")],
)  # fmt: skip
def test_last_blocks_are_those_before_the_head(make, first, not_in):
    model = make()
    names = names_of_last_blocks(model, 1)
    assert names[0].startswith(first)
    assert not any(not_in in name for name in names)
    assert not any(name.startswith(("linear.", "classifier.")) for name in names)
    attach(model, [new_backbone(model, names)])
    assert names_of_last_blocks(model, 1) == names  # parts are no blocks
    assert set(names_of_last_blocks(model, 99)) == set(names_before_head(model))


def test_blocks_can_be_named_and_a_wrong_name_is_refused():
    model = resnet()
    assert all(name.startswith("layer2.") for name in names_of_last_blocks(model, 1, ("layer2",)))
    with pytest.raises(ModelError, match=r"no module 'layer9'; did you mean 'layer\d'"):
        names_of_last_blocks(model, 1, ("layer9",))


def test_saved_it_loads_alone_and_says_the_same(kind, tmp_path):
    model, batch = kind
    grown(model)
    grown(model, seed=2)
    write_version(model, tmp_path / "v")
    found = load(tmp_path / "v", tokenizer_needed=False).model
    assert torch.equal(said(found, batch), said(model, batch))
    assert [part.config for part in parts_of(found)] == [part.config for part in parts_of(model)]


def test_alone_it_answers_in_the_models_place_and_takes_it(kind):
    model, batch = kind
    before = said(model, batch)
    part = new_backbone(model, names_before_head(model), alone=True)
    attach(model, [part])
    assert torch.allclose(said(model, batch), before, atol=1e-6)
    stirred(part, 3)
    wanted = said(model, batch)
    assert not torch.allclose(wanted, before, atol=1e-3)
    take_its_place(model, part)
    detach(model)
    assert torch.allclose(said(model, batch), wanted, atol=1e-6)


def test_a_head_that_grew_has_rows_that_it_says_nothing_of(kind):
    model, batch = kind
    part = grown(model)
    old, head = said(model, batch), head_of(model)
    with torch.no_grad():
        head.weight = torch.nn.Parameter(torch.cat([head.weight, torch.ones(1, head.in_features)]))
        head.bias = torch.nn.Parameter(torch.cat([head.bias, torch.zeros(1)]))
    head.out_features = model.config.num_labels = 5
    new = said(model, batch)
    assert torch.allclose(new[:, :4], old, atol=1e-6)
    detach(model, [part])
    assert torch.allclose(new[:, 4], said(model, batch)[:, 4], atol=1e-6)


def test_a_model_of_another_shape_and_a_head_alone_are_refused(kind):
    model, _ = kind
    part = grown(model)
    with pytest.raises(ModelError, match="asked without the model"):
        head_of(model)(torch.zeros(1, part.config.width))
    other = vit() if not isinstance(model, type(vit())) else resnet()
    elsewhere = type(part)(part.config.model_copy(update={"at": "classifier" if hasattr(other, "vit") else "linear"}))
    with pytest.raises(ModelError, match="the model has none; give the model that it was made for"):
        attach(other, [elsewhere])
