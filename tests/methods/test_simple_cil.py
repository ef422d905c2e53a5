"""SimpleCIL against python loops; and of all learners that count: deleted is never seen, to the bit, in any order."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from tests.methods.counting import Counted, entering_head, label_of

from palimpsest.errors import DataError, ModelError, PlanError
from palimpsest.models.families import of_model

HEADS = ["simple_cil", "fecam", "ranpac"]
SEEN: dict[tuple[str, ...], torch.Tensor] = {}


@pytest.fixture
def remembered(monkeypatch):
    """Let what enters the head be asked once for each row of a kind of data, whose model is always the same."""

    def remember(kind: str) -> None:
        def features(model, batch):
            known = (kind, *batch.ids)
            if known not in SEEN:
                SEEN[known] = class_features_of(model, batch)
            return SEEN[known]

        monkeypatch.setattr("palimpsest.models.class_features.of_model", lambda _: SimpleNamespace(features=features))

    return remember


def class_features_of(model, batch):
    return of_model(model).features(model, batch)


@pytest.mark.parametrize("kind", ["images", "texts"])
@pytest.mark.parametrize("method", HEADS)
def test_after_a_deletion_it_answers_as_one_that_never_saw_the_rows(method, kind, tmp_path, remembered):
    """1, 10 and 200 rows, and a class; for the first method every row goes through the model every time."""
    if method != HEADS[0]:
        remembered(kind)
    world = Counted(method, kind, tmp_path)
    everyone = world.learned(range(212))
    assert world.accuracy(everyone) > 0.6
    for gone in (range(1), range(10), range(200), [n for n in range(212) if label_of(n) == 1]):
        deleted = world.unlearned(everyone, gone)
        never = world.learned([n for n in range(212) if n not in set(gone)])
        assert torch.equal(world.logits(deleted), world.logits(never))
        assert deleted.record.rows == never.record.rows
        assert deleted.companion.digest() == never.companion.digest()
        assert not torch.equal(world.logits(deleted), world.logits(everyone))
    assert world.logits(deleted).softmax(-1)[:, 1].max() < 1e-40


@pytest.mark.parametrize("method", HEADS)
def test_the_order_of_learning_does_not_matter(method, tmp_path):
    world = Counted(method, "texts", tmp_path)
    at_once = world.learned([*range(20, 60), *range(20)])
    in_turn = world.learned(range(10, 60), world.learned(range(20)))  # some of them twice, who are counted once
    assert torch.equal(world.logits(at_once), world.logits(in_turn))


def test_it_is_the_cosine_to_the_means_by_hand(tmp_path):
    world = Counted("simple_cil", "texts", tmp_path, scale=1.0)
    version = world.learned(range(30))
    learned, (asked,) = (entering_head(world, numbers).tolist() for numbers in (range(30), [240]))
    said = world.logits(version)[0].tolist()
    for label in range(3):
        own = [f for n, f in enumerate(learned) if n % 3 == label]
        mean = [sum(column) / len(own) for column in zip(*own, strict=True)]
        dot = sum(a * b for a, b in zip(asked, mean, strict=True))
        assert said[label] == pytest.approx(dot / math.hypot(*asked) / math.hypot(*mean), abs=1e-4)


def test_what_was_never_counted_or_is_all_there_is_refused(tmp_path):
    world = Counted("simple_cil", "images", tmp_path)
    version = world.learned(range(6))
    with pytest.raises(DataError, match=r"simple_cil: 1 of 2 rows to delete, first 'i6', were never counted"):
        world.unlearned(version, [0, 6])
    with pytest.raises(DataError, match="no row of any class would be left"):
        world.unlearned(version, range(6))
    version.companion.forget(["i0"])
    with pytest.raises(DataError, match="never counted"):
        world.unlearned(version, [3])  # of the class whose sums were purged


def test_another_label_under_the_same_id_is_refused(tmp_path):
    world = Counted("simple_cil", "images", tmp_path)
    version, rows = world.learned(range(6)), world.rows(range(6))
    rows.label_N[2] = 0
    with pytest.raises(DataError, match="row 'i2' was learned with another content or label"):
        world.run({"forget": rows.subset(["i2"])}, version)


def test_statistics_of_another_backbone_or_method_or_none_are_refused(tmp_path):
    world = Counted("simple_cil", "images", tmp_path)
    version = world.learned(range(6))
    with torch.no_grad():
        version.model.conv1.weight[0, 0, 0, 0] += 1
    with pytest.raises(ModelError, match="of another backbone"):
        world.unlearned(version, [0])
    with pytest.raises(PlanError, match="there are none beside the model; learn with --method simple_cil"):
        world.run({"forget": world.rows([0])}, None)
