"""LAE: the average by hand, rows of earlier classes to the bit, one pair of adapters, kill and resume."""

from __future__ import annotations

import pytest
import torch
from tests.methods.view_runs import first_version, logits, pictures, sentences, tiny_bert, tiny_vit

from palimpsest.models.parts import off
from palimpsest.models.parts.task_views import acting_alone, task_parts

OF = {"image": (tiny_vit, pictures), "labels": (tiny_bert, sentences)}


@pytest.fixture(scope="module", params=["image", "labels"])
def learned(request, tmp_path_factory):
    """How rows are made, and the version before and after each of two tasks."""
    make, rows = OF[request.param]
    versions = [first_version(make(), tmp_path_factory.mktemp("lae"))]
    for classes in ((0, 1), (2, 3)):
        versions.append(versions[-1].then("lae", {"learn": rows(classes)}, {"decay": 0.5}, num_train_epochs=2))
    return rows, versions


def test_one_pair_goes_on_and_old_rows_stay_to_the_bit(learned):
    rows, (_start, one, two) = learned
    assert len(task_parts(one.model)) == len(task_parts(two.model)) == 2
    assert torch.equal(one.head().class_rows[:2], two.head().class_rows[:2])
    assert not torch.equal(one.head().class_rows[2:4], two.head().class_rows[2:4])
    assert not torch.equal(task_parts(one.model)[0].up_0, task_parts(two.model)[0].up_0)
    test = rows((0, 1, 2, 3), seed=9)
    assert (two.logits(test).argmax(1) == test.label_N).float().mean() > 0.5


def test_answers_with_the_larger_probability_of_the_two_views(learned):
    rows, (_start, _one, two) = learned
    test, seen, head = rows((0, 2), seed=9), {}, two.head()
    for task in (1, 2):
        hook = two.model.classifier.register_forward_pre_hook(lambda _m, inputs, t=task: seen.update({t: inputs[0]}))
        with hook, off(two.model, [head]), acting_alone(two.model, task):
            logits(two.model, test)
    said = two.logits(test).exp()
    p = [torch.nn.functional.cosine_similarity(seen[t][:, None], head.class_rows[:4], dim=-1) * 16 for t in (1, 2)]
    wanted = torch.maximum(*(values.softmax(-1) for values in p))
    assert torch.allclose(said[:, :4], wanted, atol=1e-5)


def test_the_average_follows_by_hand(tmp_path):
    """One step that moves the adapter from where both begin: the average goes half of the way."""
    start = first_version(tiny_vit(), tmp_path)
    one = start.then("lae", {"learn": pictures((0, 1), each=2)}, {"decay": 0.5, "rests": 0.0})
    rested = start.then("lae", {"learn": pictures((0, 1), each=2)}, {"decay": 0.0, "rests": 0.0})
    (on, average), (same, follows) = task_parts(one.model), task_parts(rested.model)
    assert torch.equal(on.up_0, same.up_0)
    assert torch.equal(follows.up_0, on.up_0)
    assert torch.equal(average.up_0, on.up_0 / 2)


def test_the_adapter_rests_while_the_rows_learn(tmp_path):
    start = first_version(tiny_vit(), tmp_path)
    one = start.then("lae", {"learn": pictures((0, 1))}, {"rests": 0.5}, max_steps=1)
    assert not task_parts(one.model)[0].up_0.any()


@pytest.mark.parametrize("dies_at", [1, 3])
def test_killed_in_either_stage_it_goes_on_to_the_same_bits(dies_at, tmp_path):
    start = first_version(tiny_vit(), tmp_path).then("lae", {"learn": pictures((2, 3))})
    whole = start.then("lae", {"learn": pictures((0, 1))}, num_train_epochs=2)
    resumed = start.then("lae", {"learn": pictures((0, 1))}, num_train_epochs=2, dies_at=dies_at)
    state = resumed.model.state_dict()
    assert all(torch.equal(t, state[name]) for name, t in whole.model.state_dict().items())
