"""EASE: growth, adapters that stay to the bit, deletion that is never having learned."""

from __future__ import annotations

import copy
import itertools
import json

import pytest
import torch
from tests.methods.view_runs import first_version, logits, pictures, sentences, tiny_bert, tiny_vit

from palimpsest.errors import DataError, ModelError
from palimpsest.models.load import load
from palimpsest.models.parts import off
from palimpsest.models.parts.task_views import acting_alone, task_parts, tasks_of
from palimpsest.models.parts.with_parts import write_version

READS = {"size": {"height": 8, "width": 8}, "image_mean": [0.5], "image_std": [0.25]}
OF = {"image": (tiny_vit, pictures), "labels": (tiny_bert, sentences)}


@pytest.fixture(scope="module", params=["image", "labels"])
def learned(request, tmp_path_factory):
    """How rows are made, and the version before and after each of three tasks."""
    make, rows = OF[request.param]
    versions = [first_version(make(), tmp_path_factory.mktemp("ease"))]
    for classes in ((0, 1), (2, 3), (4, 5)):
        versions.append(versions[-1].then("ease", {"learn": rows(classes)}))
    return rows, versions


def test_grows_by_an_adapter_a_task_and_earlier_ones_stay_to_the_bit(learned):
    _rows, versions = learned
    models = [version.model for version in versions]
    assert [tasks_of(model) for model in models] == [(), (1,), (1, 2), (1, 2, 3)]
    for before, after in itertools.pairwise(models):
        for old, kept in zip(task_parts(before), task_parts(after), strict=False):
            assert all(torch.equal(t, kept.state_dict()[name]) for name, t in old.state_dict().items())
    weights = [dict(model.named_parameters()) for model in models]
    assert all(torch.equal(p, weights[-1][name]) for name, p in weights[0].items())


def test_knows_what_it_was_taught_and_masks_what_it_was_not(learned):
    rows, versions = learned
    test = rows(tuple(range(6)), seed=9)
    said = versions[2].logits(test)
    assert (said[:, 4:] <= said[:, :4].amin(1, keepdim=True) - 99).all()
    assert (versions[3].logits(test).argmax(1) == test.label_N).float().mean() > 0.5


def test_means_are_those_of_the_views(learned):
    """Row by row through the model with one adapter and its own head."""
    rows, versions = learned
    model, head, seen = versions[3].model, versions[3].head(), []
    hook = model.classifier.register_forward_pre_hook(lambda _m, inputs: seen.append(inputs[0][0].clone()))
    for place, task in enumerate((1, 2, 3)):
        seen.clear()
        for one in rows((4,)).ids:
            with off(model, [head]), acting_alone(model, task):
                logits(model, rows((4,)).subset([one]))
        assert torch.allclose(head.means_CVD[4, place], sum(seen) / len(seen), atol=1e-4)
    hook.remove()


def test_a_task_that_goes_was_never_taught(learned):
    rows, versions = learned
    test = rows(tuple(range(6)), seed=9)
    never = versions[1].then("ease", {"learn": rows((4, 5))})
    without = versions[3].then("ease", {"forget": rows((2, 3))})
    assert tasks_of(without.model) == (1, 3)
    assert torch.equal(without.logits(test), never.logits(test))


def test_a_class_and_an_example_go_and_come_back_to_the_bit(learned):
    rows, versions = learned
    test, task = rows(tuple(range(6)), seed=9), rows((2, 3))
    gone = task.subset([i for i in task.ids if i.startswith(("0-2", "0-3-0"))])
    without = versions[3].then("ease", {"forget": gone})
    assert without.head().present_C.tolist() == [True, True, False, True, True, True]
    assert tasks_of(without.model) == (1, 2, 3)
    left = [i for i in task.ids if i not in gone.ids]
    mean = versions[3].head().means_CVD[3, 1] * 4 - _feature(versions[3], task.subset(["0-3-0"]), 2)
    assert torch.allclose(without.head().means_CVD[3, 1], mean / len(left), atol=1e-4)
    again = without.then("ease", {"forget": task.subset(left[:1])}).then("ease", {"learn": task.subset(left[:1])})
    assert torch.equal(again.logits(test), without.logits(test))


def _feature(version, rows, task):
    seen, model = [], version.model
    hook = model.classifier.register_forward_pre_hook(lambda _m, inputs: seen.append(inputs[0][0].clone()))
    with hook, off(model, [version.head()]), acting_alone(model, task):
        logits(model, rows)
    return seen[0]


def test_unknown_classes_of_replay_are_taught_with_the_first_task_and_known_ones_are_not(tmp_path):
    one = first_version(tiny_vit(), tmp_path).then("ease", {"learn": pictures((0, 1)), "replay": pictures((4,))})
    assert one.head().own_C.tolist() == [1, 1, 0, 0, 1, 0]
    two = one.then("ease", {"learn": pictures((2, 3)), "replay": pictures((4,))})
    alone = one.then("ease", {"learn": pictures((2, 3))})
    assert two.head().own_C.tolist() == [1, 1, 2, 2, 1, 0]
    assert torch.equal(two.logits(pictures((0, 2, 4))), alone.logits(pictures((0, 2, 4))))


def test_killed_it_goes_on_to_the_same_bits(learned):
    rows, versions = learned
    resumed = versions[1].then("ease", {"learn": rows((2, 3))}, dies_at=2)
    state = resumed.model.state_dict()
    assert all(torch.equal(t, state[name]) for name, t in versions[2].model.state_dict().items())


def test_saved_and_loaded_it_answers_with_the_same_bits(learned, tmp_path):
    rows, versions = learned
    test = rows((0, 1, 2, 3), seed=9)
    write_version(copy.deepcopy(versions[2].model), tmp_path / "v")
    (tmp_path / "v" / "preprocessor_config.json").write_text(json.dumps(READS))
    found = load(tmp_path / "v", tokenizer_needed=False).model
    assert torch.equal(logits(found, test), versions[2].logits(test))


def test_rows_that_it_never_counted_are_refused(learned):
    rows, versions = learned
    with pytest.raises(DataError, match="were never counted by this head"):
        versions[3].then("ease", {"forget": rows((2,), seed=5)})


def test_a_model_without_its_head_is_refused(tmp_path):
    with pytest.raises(ModelError, match="learn with the method that adds it first"):
        first_version(tiny_vit(), tmp_path).then("ease", {"forget": pictures((2,))})
