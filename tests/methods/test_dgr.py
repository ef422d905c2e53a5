"""DGR: the weights of classes by hand, and the gradient of a step put together from its two parts."""

from __future__ import annotations

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from tests.methods.small_classes import class_rows, learn, prepared, small_classifier

from palimpsest.loop.step import micro_batches, take_step
from palimpsest.methods.dgr import class_weights, distilled_share, with_prior

LEARN, MEMORY = class_rows("images", (2, 3), each=4, seed=1), class_rows("images", (0, 1), each=3)
SETS = {"learn": LEARN, "replay": MEMORY}
HEAD = "classifier.weight"


def test_weights_by_hand():
    """Old G = (4, 2), mean 3; new G = (1, 8, 0), means over those that had any: 4.5; 2 of 5 classes are old."""
    norm_C, new_C = torch.tensor([4.0, 2.0, 1.0, 8.0, 0.0]), torch.tensor([False, False, True, True, True])
    held = math.exp(-0.5 * 2 / 5) * 3 / 4.5
    wanted = [2 / 4, 2 / 2, 1 / 1 * held, 1 / 8 * held, 1.0]
    assert class_weights(norm_C, new_C, gamma=0.5).tolist() == pytest.approx(wanted)


def test_old_classes_are_held_back_where_they_had_more():
    norm_C, new_C = torch.tensor([6.0, 2.0]), torch.tensor([False, True])
    assert class_weights(norm_C, new_C, gamma=0.0).tolist() == pytest.approx([1 / 3, 1.0])


def test_alone_or_at_the_beginning_everything_weighs_one():
    new_C = torch.tensor([False, True])
    assert class_weights(torch.zeros(2), new_C, gamma=1.0).tolist() == [1.0, 1.0]
    assert class_weights(torch.tensor([0.0, 3.0]), new_C, gamma=1.0).tolist() == [1.0, 1.0]


def test_distillation_pulls_the_head_as_much_as_the_loss():
    """‖(½·6, 4)‖ = 5 over ‖(0, 2)‖."""
    weight_C, norm_C = torch.tensor([0.5, 1.0]), torch.tensor([6.0, 4.0])
    assert distilled_share(weight_C, norm_C, torch.tensor([0.0, 2.0]), 1.0) == pytest.approx(2.5)
    assert distilled_share(weight_C, norm_C, torch.tensor([0.0, 1e-9]), 0.7) == 0.7
    assert distilled_share(weight_C, norm_C, torch.tensor([0.0, 2.0]), 0.0) == 0.0


def test_a_class_that_is_never_drawn_has_no_gradient():
    logits_SV = torch.randn(2, 3, requires_grad=True)
    F.cross_entropy(with_prior(logits_SV, torch.tensor([0.25, 0.75, 0.0])), torch.tensor([0, 1])).backward()
    assert logits_SV.grad[:, 2].tolist() == [0, 0]
    assert logits_SV.grad[:, :2].abs().min() > 0


def shaken(model):
    """At the reference itself a distillation has no gradient."""
    generator = torch.Generator().manual_seed(9)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return model


def step_of(tmp_path, size=None, **options):
    """What one iteration does at rate 1, all rows at once or so many at a time; the model before, and the method."""
    model = small_classifier("images")
    method = prepared("dgr", model, SETS, tmp_path / str(size), {}, **options)
    start = copy.deepcopy(shaken(model))
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    parts = micro_batches(SETS, {name: rows.ids for name, rows in SETS.items()}, "learn", size)
    for phase in method.phases(0, 1):
        how = {"phase": phase, "max_grad_norm": 0.0}
        take_step(Accelerator(cpu=True), method, model, optimizer, parts, **how)
    way = {
        name: p0.detach() - p.detach()
        for (name, p0), p in zip(start.named_parameters(), model.parameters(), strict=True)
    }
    return start, method, way


def by_hand(start, reference):
    """Both gradients by autograd over the whole sets, each with half the weight."""
    prior_V = torch.tensor([0.5, 0.5, 0.5, 0.5]) / 2
    losses = []
    for term in ("loss", "distil"):
        start.zero_grad()
        for rows in SETS.values():
            logits_SV = start.vit(pixel_values=rows.batch(rows.ids).images_BCHW).last_hidden_state[:, 0]
            logits_SV = start.classifier(logits_SV)
            with torch.no_grad():
                before_SV = rows.batch(rows.ids).predict(reference).logits_SV[:, :2]
            if term == "loss":
                one = F.cross_entropy(logits_SV + prior_V.log(), rows.label_N)
            else:
                now, then = (z.div(2).log_softmax(1) for z in (logits_SV[:, :2], before_SV))
                one = (then.exp() * (then - now)).sum(1).mean()
            (one / 2).backward()
        losses.append({name: p.grad.clone() for name, p in start.named_parameters()})
    return losses


def test_a_step_by_hand(tmp_path):
    start, method, way = step_of(tmp_path, kd_weight=0.5, gamma=1.0)
    plain, distilled = by_hand(start, small_classifier("images"))
    norm_V, kd_norm_V = plain[HEAD].norm(dim=1), distilled[HEAD].norm(dim=1)
    weight_V = class_weights(norm_V, torch.tensor([False, False, True, True]), 1.0)
    assert torch.allclose(method.state()["norms"], norm_V, atol=1e-5)
    assert weight_V.min() < 0.9
    share = (weight_V * norm_V).norm() / kd_norm_V.norm()
    head = weight_V[:, None] * plain[HEAD] + share * distilled[HEAD]
    assert (way[HEAD] - head).norm() / head.norm() < 1e-3
    body = "vit.layers.0.mlp.fc1.weight"
    wanted = plain[body] + 0.5 * (2 / 2) * distilled[body]
    assert (way[body] - wanted).norm() / wanted.norm() < 1e-3
    assert distilled[body].norm() > 0.01 * plain[body].norm()


def test_a_step_does_not_depend_on_how_it_is_cut(tmp_path):
    _, _, whole = step_of(tmp_path)
    _, _, cut = step_of(tmp_path, size=2)
    for name in (HEAD, "vit.layernorm.weight"):
        assert (whole[name] - cut[name]).norm() / whole[name].norm() < 1e-4


def test_without_old_classes_there_is_one_phase(tmp_path):
    everything = {"learn": class_rows("images", (0, 1, 2, 3), each=2)}
    method = prepared("dgr", small_classifier("images"), everything, tmp_path / "run", {})
    assert [phase.name for phase in method.phases(0, 1)] == ["learn"]
    assert [p.name for p in prepared("dgr", small_classifier("images"), SETS, tmp_path / "two", {}).phases(0, 1)] == [
        "distil",
        "learn",
    ]


def test_what_each_class_had_comes_back_from_a_checkpoint(tmp_path):
    method = prepared("dgr", small_classifier("images"), SETS, tmp_path / "run", {})
    method.load_state({"norms": torch.tensor([1.0, 2.0, 3.0, 4.0])})
    assert method.state()["norms"].tolist() == [1, 2, 3, 4]


def test_it_learns_on_texts_too(tmp_path):
    first, second = class_rows("texts", (0, 1)), class_rows("texts", (2,), seed=1)
    model = learn("dgr", small_classifier("texts"), {"learn": second, "replay": first}, tmp_path / "run")
    assert all(torch.isfinite(p).all() for p in model.parameters())
