"""iCaRL: its loss by hand, the means of the exemplars in python, deletion from them, a death on the way, refusals."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from tests.methods.classes import Before, LinearImages, images
from tests.methods.view_runs import first_version, pictures, sentences, tiny_bert, tiny_vit

from palimpsest.contract import Phase
from palimpsest.data.encode.image import ImageSet
from palimpsest.errors import DataError, PlanError
from palimpsest.methods import configure
from palimpsest.methods.icarl import ICaRL, exemplars_of
from palimpsest.models.class_features import SeenRows

FEW = {"per_class": 2}
BRISK = {"learning_rate": 1e-2, "num_train_epochs": 3}


@pytest.fixture(scope="module", params=["images", "texts"])
def learned(request, tmp_path_factory):
    """How rows are made, and the versions of two tasks; the second rehearses three rows of each class of the first."""
    make, rows = (tiny_bert, sentences) if request.param == "texts" else (tiny_vit, pictures)
    start = first_version(make(), tmp_path_factory.mktemp("icarl"))
    one = start.then("icarl", {"learn": rows((0, 1))}, FEW, **BRISK)
    memory = rows((0, 1)).subset([i for i in rows((0, 1)).ids if not i.endswith("-3")])
    return rows, start, one, one.then("icarl", {"learn": rows((2, 3)), "replay": memory}, FEW, **BRISK)


def entering(version, rows):
    """Features of length 1 by a plain hook, a row at a time."""
    seen = []
    hook = version.model.classifier.register_forward_pre_hook(lambda _m, inputs: seen.append(inputs[0][0]))
    with hook, torch.no_grad():
        for i in rows.ids:
            rows.batch([i]).predict(version.model)
    return [[x / math.hypot(*f.tolist()) for x in f.tolist()] for f in seen]


def test_both_terms_by_hand():
    """p = (0.8, 0.2) against (0.5, 0.5) before at T = 2: KL 0.0588915, as for LwF; a third class is new."""
    skewed = LinearImages([[0.0, 0.0]] * 3, [math.log(4), 0.0, math.log(5)])
    method = ICaRL(configure("icarl", {"lambda_kd": 0.5, "memory_weight": 2.0}), Before(LinearImages([[0.0, 0.0]] * 3)))
    method._known = [0, 1]
    sets = {"learn": images("l", [[0, 0]], [2]), "replay": images("r", [[0, 0]] * 2, [0, 1])}
    batches = {name: one.batch(one.ids) for name, one in sets.items()}
    terms = method.loss(skewed, batches, Phase("joint", ("learn", "replay")))
    assert terms["learn"].total.item() == pytest.approx(-math.log(0.5), rel=1e-5)
    assert terms["replay"].total.item() == pytest.approx(-math.log(0.4) - math.log(0.1), rel=1e-5)
    assert terms["learn_kd"].total.item() == pytest.approx(0.0588915, rel=1e-5)
    assert terms["replay_kd"].total.item() == pytest.approx(2 * 0.0588915, rel=1e-5)
    assert [terms[name].weight for name in ("learn", "learn_kd", "replay", "replay_kd")] == [1, 0.5, 2, 1]
    method._known = []
    assert set(method.loss(skewed, batches, Phase("joint", ("learn", "replay")))) == {"learn", "replay"}


def test_exemplars_are_herded_class_by_class():
    values = torch.tensor([[0.0], [9.0], [1.0], [8.0], [5.0], [1.0]])
    seen = SeenRows(tuple("abcdef"), ("",) * 6, torch.tensor([0, 1, 0, 1, 0, 1]), values)
    assert exemplars_of(seen, 1) == [2, 3]


def test_the_mean_of_the_exemplars_that_is_nearest_is_said(learned):
    """Replay rows are exemplars as they are; of a new class the two that herding names."""
    rows, _start, _one, two = learned
    test = rows((1,), each=1, seed=9)
    said, (asked,) = two.logits(test)[0].tolist(), entering(two, test)
    for label in range(4):
        task = rows((0, 1) if label < 2 else (2, 3))
        features = entering(two, task.subset([i for i in task.ids if f"-{label}-" in i]))
        if label < 2:
            own = features[:3]
        else:
            count = len(features)
            mean = [sum(column) / count for column in zip(*features, strict=True)]
            first = min(range(count), key=lambda n: math.dist(features[n], mean))
            pairs = {n: [(a + b) / 2 for a, b in zip(features[first], features[n], strict=True)] for n in range(count)}
            own = [features[first], features[min(set(pairs) - {first}, key=lambda n: math.dist(pairs[n], mean))]]
        mu = [sum(column) / len(own) for column in zip(*own, strict=True)]
        cosine = sum(a * b for a, b in zip(asked, mu, strict=True)) / math.hypot(*mu)
        assert said[label] == pytest.approx(16 * cosine, abs=2e-3)
    assert said[4] == said[5] == pytest.approx(min(said[:4]) - 100)


def test_it_learns_and_the_backbone_moves(learned):
    rows, start, one, two = learned
    test = rows((0, 1, 2, 3), seed=9)
    assert (two.logits(test).argmax(1) == test.label_N).float().mean() > 0.7
    weights = [dict(version.model.named_parameters()) for version in (start, one, two)]
    assert all(any(not torch.equal(p, b[name]) for name, p in a.items()) for a, b in pairwise(weights))


def test_what_goes_is_as_if_it_had_never_been_an_exemplar(learned):
    """Of the means alone: the backbone stays. A class without exemplars is not said any more."""
    rows, _start, _one, two = learned
    test, memory = rows((0, 1, 2, 3), seed=9), rows((0, 1))
    gone = two.then("icarl", {"forget": memory.subset(memory.ids[:1])}, FEW)
    mu = [sum(column) / 2 for column in zip(*entering(two, memory)[1:3], strict=True)]
    asked = entering(two, test)[0]
    cosine = sum(a * b for a, b in zip(asked, mu, strict=True)) / math.hypot(*mu)
    assert gone.logits(test)[0, 0].item() == pytest.approx(16 * cosine, abs=2e-3)
    whole = two.then("icarl", {"forget": memory.subset(memory.ids[:4])}, FEW)
    assert whole.logits(test).softmax(-1)[:, 0].max() < 1e-30
    assert torch.equal(whole.logits(test)[:, 1:4], two.logits(test)[:, 1:4])
    weights = dict(two.model.named_parameters())
    assert all(torch.equal(p, weights[name]) for name, p in whole.model.named_parameters())


def test_rows_that_are_no_exemplars_and_classes_that_would_be_lost_are_refused(learned):
    rows, _start, one, two = learned
    other = rows((0, 1)).subset([i for i in rows((0, 1)).ids if i.endswith("-3")])
    with pytest.raises(DataError, match="none of 2 rows to delete is an exemplar"):
        two.then("icarl", {"forget": other}, FEW)
    with pytest.raises(PlanError, match=r"icarl: 2 of 2 known classes would be lost, first 'LABEL_0'"):
        one.then("icarl", {"learn": rows((2, 3))}, FEW)
    with pytest.raises(PlanError, match=r"icarl\.per_class = 0"):
        configure("icarl", {"per_class": 0})


def test_a_death_on_the_way_changes_no_bit(tmp_path):
    start = first_version(tiny_vit(), tmp_path)
    sets: dict[str, ImageSet] = {"learn": pictures((2, 3)), "replay": pictures((0, 1), each=2)}
    whole, again = (start.then("icarl", sets, FEW, dies_at=dies) for dies in (0, 2))
    test = pictures((0, 1, 2, 3), seed=9)
    assert torch.equal(whole.logits(test), again.logits(test))
