"""Mini-batches of named sets, on a table model whose gradients are known by hand."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from tests.data.test_image import some
from tests.models.test_resnet import tiny
from torch import nn

from palimpsest.data.encode.augment import Augmentation
from palimpsest.data.encode.batch import TextSet, TokenSequence
from palimpsest.rules.saliency_batches import MaskSample, batch_losses, masks_of_sets


class Table(nn.Module):
    """Next-token logits looked up by the current token."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.zeros(3, 3))

    def forward(self, input_ids, attention_mask, use_cache):
        return SimpleNamespace(logits=self.table[input_ids])


def rows(prefix: str, current: int, count: int) -> TextSet:
    """Pairs of tokens: 0 after ``current``."""
    return TextSet([TokenSequence(f"{prefix}{k}", (current, 0), (False, True)) for k in range(count)], pad_id=0)


class Watched(TextSet):
    """Notes the ids of every batch."""

    def batch(self, ids):
        self.seen = [*getattr(self, "seen", []), tuple(ids)]
        return super().batch(ids)


def watched(examples: TextSet) -> Watched:
    return Watched([examples[i] for i in examples.ids], pad_id=0)


def test_batches_have_one_size_and_leave_nothing_out():
    examples = watched(rows("a", 0, 11))
    losses = batch_losses(Table(), examples, limit=10, batch_size=4)
    assert losses[0]().item() == pytest.approx(torch.log(torch.tensor(3.0)).item())
    assert [loss().item() for loss in losses]
    assert [len(ids) for ids in examples.seen[1:]] == [4, 4, 4]
    assert len({i for ids in examples.seen for i in ids}) == 10


@pytest.mark.parametrize(("num_forget", "expected"), [(1, 1), (3, 3), (9, 4)])
def test_all_sets_have_batches_of_the_smallest_ones_size(num_forget, expected):
    """A mean over a larger batch has a smaller squared gradient: another size would move the threshold of the mask."""
    sets = {"forget": watched(rows("f", 0, num_forget)), "retain": watched(rows("r", 2, 9))}
    changing, staying = {"forget": sets["forget"]}, {"retain": sets["retain"]}
    masks_of_sets(Table(), changing, staying, gamma=1.0, sample=MaskSample(limit=8, batch_size=4))
    for examples in sets.values():
        assert {len(ids) for ids in examples.seen} == {expected}


def test_the_losses_of_images_are_those_of_the_images_as_they_are():
    model = tiny().eval()
    (augmented,) = batch_losses(model, some(6, augment=Augmentation()), limit=10, batch_size=8)
    (plain,) = batch_losses(model, some(6), limit=10, batch_size=8)
    assert augmented().item() == augmented().item() == plain().item()


def test_a_set_smaller_than_a_batch_is_one_batch():
    assert len(batch_losses(Table(), rows("a", 0, 3), limit=10, batch_size=4)) == 1


def test_the_choice_depends_on_the_ids_alone():
    seen = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        examples = watched(rows("a", 0, 9))
        for loss in batch_losses(Table(), examples, limit=4, batch_size=2):
            loss()
        seen.append(examples.seen)
    assert seen[0] == seen[1]
    assert len({i for part in seen[0] for i in part}) == 4


def test_each_set_keeps_its_own_rows():
    """Forget reads row 0, learn row 1, what stays row 2: everything but row 2 may move."""
    changing, staying = {"forget": rows("f", 0, 2), "learn": rows("l", 1, 4)}, {"retain": rows("r", 2, 2)}
    saliency = masks_of_sets(Table(), changing, staying, gamma=1.0, sample=MaskSample(limit=8, batch_size=2))
    mask = saliency.masks["forget"].mask("table")
    assert mask.all(1).tolist() == [True, True, False]
