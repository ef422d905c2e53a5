"""APER: what is tuned on the first task and stays, concatenation by hand, deletion that is never having counted."""

from __future__ import annotations

import math

import pytest
import torch
from tests.methods.view_runs import first_version, logits, pictures, sentences, tiny_bert, tiny_vit

from palimpsest.errors import ModelError
from palimpsest.models.parts import off
from palimpsest.models.parts.task_views import acting_alone, task_parts
from palimpsest.models.resnet import SmallResNet, resnet_config

TUNES = {
    "finetune": "tuned_weights",
    "ssf": "scale_shift",
    "vpt_shallow": "block_prompts",
    "vpt_deep": "block_prompts",
    "adapter": "block_adapter",
}


@pytest.fixture(scope="module", params=[*TUNES, "text"])
def learned(request, tmp_path_factory):
    """How rows are made, the kind of the part, and the versions of two tasks."""
    tune = "adapter" if request.param == "text" else request.param
    make, rows = (tiny_bert, sentences) if request.param == "text" else (tiny_vit, pictures)
    start = first_version(make(), tmp_path_factory.mktemp("aper"))
    one = start.then("aper", {"learn": rows((0, 1))}, {"tune": tune})
    return rows, TUNES[tune], (start, one, one.then("aper", {"learn": rows((2, 3))}))


def test_the_first_task_is_tuned_and_the_second_is_counted(learned):
    _rows, kind, (start, one, two) = learned
    (part,), (same,) = task_parts(one.model), task_parts(two.model)
    assert part.kind == same.kind == kind
    assert all(torch.equal(t, same.state_dict()[name]) for name, t in part.state_dict().items())
    weights = dict(two.model.named_parameters())
    assert all(torch.equal(p, weights[name]) for name, p in start.model.named_parameters())
    assert two.head().present_C.tolist() == [True] * 4 + [False] * 2


def test_answers_by_the_cosine_of_both_features_side_by_side(learned):
    """Two passes with plain hooks, and sums in python."""
    rows, _kind, (_start, _one, two) = learned
    seen, model, head = {}, two.model, two.head()
    for task in (0, 1):
        hook = model.classifier.register_forward_pre_hook(lambda _m, inputs, t=task: seen.update({t: inputs[0]}))
        with hook, off(model, [head]), acting_alone(model, task):
            logits(model, rows((1, 3), each=1, seed=9))
    said = two.logits(rows((1, 3), each=1, seed=9))
    for row in range(2):
        f = [*seen[0][row].tolist(), *seen[1][row].tolist()]
        for c in range(4):
            p = head.means_CVD[c].flatten().tolist()
            sizes = math.sqrt(sum(x * x for x in f) * sum(x * x for x in p))
            assert said[row, c].item() == pytest.approx(
                16 * sum(a * b for a, b in zip(f, p, strict=True)) / sizes, abs=1e-3
            )


def test_what_goes_was_never_counted(learned):
    rows, _kind, (_start, one, two) = learned
    test = rows((0, 1, 2, 3), seed=9)
    assert torch.equal(two.then("aper", {"forget": rows((2, 3))}).logits(test), one.logits(test))
    some = rows((2, 3)).ids[2:6]
    left = one.then("aper", {"learn": rows((2, 3)).subset(set(rows((2, 3)).ids) - set(some))})
    assert torch.equal(two.then("aper", {"forget": rows((2, 3)).subset(some)}).logits(test), left.logits(test))


def test_a_small_resnet_can_be_tuned_and_its_statistics_stay(tmp_path):
    torch.manual_seed(0)
    config = resnet_config("resnet20", 6, widths=(4, 8, 8), image_size=8, image_mean=(0.5,), image_std=(0.3,))
    start = first_version(SmallResNet(config).eval(), tmp_path)
    one = start.then("aper", {"learn": pictures((0, 1))}, {"rank": 4})
    state = one.model.state_dict()
    assert all(torch.equal(t, state[name]) for name, t in start.model.state_dict().items())
    test = pictures((0, 1), seed=9)
    assert (one.logits(test).argmax(1) == test.label_N).float().mean() > 0.7


def test_prompts_need_tokens(tmp_path):
    config = resnet_config("resnet20", 6, widths=(4, 8, 8), image_size=8, image_mean=(0.5,), image_std=(0.3,))
    with pytest.raises(ModelError, match=r"no tokens that go from block to block.*aper\.tune \(ssf, finetune\)"):
        first_version(SmallResNet(config), tmp_path).then("aper", {"learn": pictures((0, 1))}, {"tune": "vpt_deep"})
