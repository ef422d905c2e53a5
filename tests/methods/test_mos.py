"""MOS: contrast and pull by hand, growth, a head that is a function of its Gaussians, deletion, kill and resume."""

from __future__ import annotations

import math

import pytest
import torch
from tests.methods.view_runs import first_version, pictures, sentences, tiny_bert, tiny_vit

from palimpsest.methods.mos import contrast_sum
from palimpsest.models.parts.block_adapter import drawn_to, new_adapter
from palimpsest.models.parts.task_views import task_parts, tasks_of

SHORT = {"align_steps": 5}
OF = {"image": (tiny_vit, pictures), "labels": (tiny_bert, sentences)}


def test_contrast_by_brute_force():
    features, means = torch.randn(3, 4), torch.randn(2, 4)
    total = 0.0
    for f in features.tolist():
        others = 0.0
        for m in means.tolist():
            dot = sum(a * b for a, b in zip(f, m, strict=True))
            cosine = dot / math.sqrt(sum(a * a for a in f) * sum(b * b for b in m))
            others += math.exp(cosine / 0.8)
        total -= math.log(math.exp(1 / 0.8) / (math.exp(1 / 0.8) + others))
    assert contrast_sum(features, means, 0.8).item() == pytest.approx(total, rel=1e-5)


def test_an_adapter_is_drawn_to_the_mean_of_others():
    adapters = [new_adapter(tiny_vit(), (), task, 4, 0.1) for task in (1, 2, 3)]
    for number, adapter in enumerate(adapters):
        for tensor in adapter.parameters():
            tensor.data.fill_(10.0 ** (number + 1))
    drawn_to(adapters[2], adapters[:2], 0.1)
    assert all(t.flatten()[0].item() == pytest.approx(0.9 * 1000 + 0.1 * 55) for t in adapters[2].parameters())
    drawn_to(adapters[0], (), 0.1)
    assert all((t == 10).all() for t in adapters[0].parameters())


@pytest.fixture(scope="module", params=["image", "labels"])
def learned(request, tmp_path_factory):
    """How rows are made, and the version before and after each of two tasks."""
    make, rows = OF[request.param]
    versions = [first_version(make(), tmp_path_factory.mktemp("mos"))]
    for classes in ((0, 1), (2, 3)):
        versions.append(versions[-1].then("mos", {"learn": rows(classes)}, SHORT))
    return rows, versions


def test_grows_by_an_adapter_a_task_and_earlier_ones_stay_to_the_bit(learned):
    rows, versions = learned
    assert [tasks_of(version.model) for version in versions] == [(), (1,), (1, 2)]
    (old,), (kept, _new) = task_parts(versions[1].model), task_parts(versions[2].model)
    assert all(torch.equal(t, kept.state_dict()[name]) for name, t in old.state_dict().items())
    test = rows((0, 1, 2, 3), seed=9)
    said = versions[2].logits(test)
    assert (said.argmax(1) == test.label_N).float().mean() > 0.5
    assert (said[:, 4:] <= said[:, :4].amin(1, keepdim=True) - 99).all()


def test_the_new_adapter_is_nearer_to_the_old_than_without_the_pull(learned):
    rows, versions = learned
    free = versions[1].then("mos", {"learn": rows((2, 3))}, {**SHORT, "pull": 0.0})

    def gap(version):
        old, new = task_parts(version.model)
        return float((old.up_0 - new.up_0).norm())

    assert gap(versions[2]) < gap(free)


def test_a_class_goes_and_the_head_is_that_of_the_gaussians_that_are_left(learned):
    """Sums are those of a count without its rows, and so is what the head begins at and is aligned to."""
    rows, versions = learned
    test = rows((0, 1, 2, 3), seed=9)
    gone = rows((0, 1)).subset([i for i in rows((0, 1)).ids if i.startswith("0-1")])
    without = versions[2].then("mos", {"forget": gone}, SHORT)
    assert without.head().present_C.tolist() == [True, False, True, True, False, False]
    assert (without.logits(test)[:, 1] < without.logits(test)[:, [0, 2, 3]].amin(1) - 99).all()
    assert not without.head().class_rows[1].any()
    kept, found = (version.statistics().sums for version in (versions[2], without))
    for label in range(4):
        alone = int(label != 1)
        assert torch.equal(found.sum_FCD[:, label], kept.sum_FCD[:, label] * alone)
        assert torch.equal(found.square_FGDD[:, label], kept.square_FGDD[:, label] * alone)


def test_a_class_that_comes_back_is_a_new_task(learned):
    rows, versions = learned
    gone = rows((0, 1)).subset([i for i in rows((0, 1)).ids if i.startswith("0-1")])
    again = versions[2].then("mos", {"forget": gone}, SHORT).then("mos", {"learn": gone}, SHORT)
    assert tasks_of(again.model) == (1, 2, 3)
    assert again.head().own_C.tolist()[:4] == [1, 3, 2, 2]


def test_a_task_goes_with_its_adapter(learned):
    rows, versions = learned
    without = versions[2].then("mos", {"forget": rows((0, 1))}, SHORT)
    assert tasks_of(without.model) == (2,)
    assert without.head().present_C.tolist() == [False, False, True, True, False, False]


@pytest.mark.parametrize("dies_at", [1, 3, 5])
def test_killed_in_either_stage_it_goes_on_to_the_same_bits(dies_at, tmp_path):
    start = first_version(tiny_vit(), tmp_path)
    whole = start.then("mos", {"learn": pictures((0, 1))}, SHORT)
    resumed = start.then("mos", {"learn": pictures((0, 1))}, SHORT, dies_at=dies_at)
    state = resumed.model.state_dict()
    assert all(torch.equal(t, state[name]) for name, t in whole.model.state_dict().items())
