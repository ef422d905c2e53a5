"""One step on a small residual network: what a phase may do to batch normalisation, what is drawn, what is counted."""

from __future__ import annotations

import pytest
import torch
from accelerate import Accelerator
from tests.data.test_image import same, some, statistics
from tests.models.test_resnet import tiny

from palimpsest.contract import Phase, Term
from palimpsest.data.encode.augment import Augmentation
from palimpsest.loop.step import micro_batches, take_step
from palimpsest.methods.finetune import Finetune, FinetuneConfig


def step(phase: Phase):
    """Weights and statistics that moved."""
    model = tiny().train()
    weights = [p.detach().clone() for p in model.parameters()]
    before = statistics(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    batch = some().batch(["i0", "i1", "i2"])
    method = Finetune(FinetuneConfig())
    take_step(Accelerator(cpu=True), method, model, optimizer, [{"learn": batch}], phase=phase, max_grad_norm=0.0)
    moved = any(not torch.equal(*pair) for pair in zip(weights, model.parameters(), strict=True))
    return moved, not same(before, model)


def test_a_plain_phase_moves_weights_and_statistics():
    assert step(Phase("joint", ("learn",))) == (True, True)


def test_a_phase_can_leave_the_statistics_alone():
    assert step(Phase("fast", ("learn",), moves_statistics=False)) == (True, False)


def test_a_look_moves_nothing():
    assert step(Phase("probe", ("learn",), update=False)) == (False, False)


@pytest.mark.parametrize("size", [1, 2, 4])
def test_augmentation_does_not_depend_on_how_a_step_is_cut(size):
    sets = {name: some(6, augment=Augmentation()) for name in ("learn", "retain")}
    drawn = {"learn": ["i0", "i1", "i2", "i3"], "retain": ["i4", "i5", "i1", "i2"]}
    torch.manual_seed(0)
    (whole,) = micro_batches(sets, drawn, "learn", None)
    torch.manual_seed(0)
    parts = micro_batches(sets, drawn, "learn", size)
    for name in sets:
        assert torch.equal(torch.cat([part[name].images_BCHW for part in parts]), whole[name].images_BCHW), name


class Distil(Finetune):
    """Finetuning that asks a teacher too, and weighs by losses."""

    def prepare(self, model, sets):
        self.teacher = tiny()
        return super().prepare(model, sets)

    def loss(self, model, batches, phase):
        batch = batches["learn"]
        with torch.no_grad():
            batch.predict(self.teacher)
        nll_B = batch.predict(model).nll_B
        weight_B = nll_B.detach()
        return {"learn": Term((weight_B * nll_B).sum(), of="learn", count=weight_B.sum())}


@pytest.mark.parametrize(
    ("size", "expected"),
    [(None, 2 * 4), (2, 2 * 4 + 2 * 2)],  # model and teacher; cut in two, a look ahead at the second part by both
)
def test_every_pass_through_model_and_teacher_is_counted(size, expected):
    model, method = tiny().train(), Distil(FinetuneConfig())
    sets = {"learn": some(4)}
    method.prepare(model, sets)
    parts = micro_batches(sets, {"learn": sets["learn"].ids}, "learn", size)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    phase = Phase("joint", ("learn",))
    result = take_step(Accelerator(cpu=True), method, model, optimizer, parts, phase=phase, max_grad_norm=0.0)
    assert result.tokens == expected
