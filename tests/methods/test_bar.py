"""BAR: the loss by hand, a step that is exactly the estimate, the exact gradient as plain reprogramming."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.models.black_boxes import SIDE, probs_of, tiny_net, write_rows

import palimpsest as pal
from palimpsest.data.encode.image import ImageSet
from palimpsest.data.encode.pixels import PixelFormat
from palimpsest.errors import ModelError, PlanError
from palimpsest.loop.job import Job
from palimpsest.loop.run import run
from palimpsest.loop.training import Training
from palimpsest.methods import configure
from palimpsest.methods.bar import BAR, focal_loss, inverse_frequency
from palimpsest.models.parts import attach, new_parts_of
from palimpsest.models.parts.label_map import mapped_log_probs
from palimpsest.models.scope import Scope, apply_scope
from palimpsest.models.zeroth_order import unit_directions

STEPS, RATE = 3, 0.5


def rows() -> ImageSet:
    """8 pictures with a frame, classes 0 and 1, all of one step."""
    drawn = np.random.default_rng(1).integers(0, 255, (8, SIDE, SIDE, 1), dtype=np.uint8)
    drawn[:, :2], drawn[:, -2:], drawn[:, :, :2], drawn[:, :, -2:] = 128, 128, 128, 128
    pixels = PixelFormat(SIDE, SIDE, (0.5,), (0.5,))
    label_N = torch.tensor([0, 1, 1, 1, 0, 1, 1, 1])
    return ImageSet(tuple("abcdefgh"), torch.from_numpy(drawn), label_N, pixels)


class Watched(BAR):
    """Notes whose rows a step looks at."""

    orders: tuple[tuple[str, ...], ...] = ()

    def loss(self, model, batches, phase):
        self.orders = (*self.orders, batches["learn"].ids)
        return super().loss(model, batches, phase)


def reprogrammed(folder: Path, **options) -> tuple[torch.nn.Module, torch.nn.Module, Watched]:
    """The tiny network with program and map after a few steps over all rows; as it was; and the method."""
    plain, learn = tiny_net(), rows()
    model, method = copy.deepcopy(plain), Watched(configure("bar", options))
    made = method.parts(model, {"learn": learn}, 7)
    for part in made:
        part.is_new = True
    model = apply_scope(attach(model, made), Scope(kind="parts"))
    method.prepare(model, {"learn": learn})
    training = Training(**{**BAR.defaults, "learning_rate": RATE, "batch_size": 8, "max_steps": STEPS,
                           "lr_scheduler_type": "constant"})  # fmt: skip
    run(Job(method, model, {"learn": learn}, training, folder))
    return model, plain, method


def by_hand(plain, program, groups, program_D, gamma=2.0) -> torch.Tensor:
    """The mean loss of the 8 rows in the order of the set, with plain loops."""
    learn = rows()
    images = program.grey_C.new_zeros(8, 1, SIDE, SIDE)
    images[:] = (learn.images_NHWC.float() / 255).permute(0, 3, 1, 2) * 2 - 1
    laid = images.clone()
    laid[:, :, program.mask_HW] = program.grey_C[0] + torch.tanh(program_D) * program.reach_C[0]
    probs = plain(pixel_values=laid).logits.softmax(-1)
    total = 0.0
    for row in range(8):
        label = int(learn.label_N[row])
        h = sum(probs[row, s] for s in groups[label]) / len(groups[label])
        total = total - {0: 2.0, 1: 2 / 3}[label] * (1 - h) ** gamma * torch.log(h)
    return total / 8


def test_the_loss_by_hand_and_its_limit():
    logp, label = torch.tensor([[0.25, 0.5]]).log(), torch.tensor([1])
    assert focal_loss(logp, label, torch.tensor([1.0, 3.0]), 2.0).item() == pytest.approx(-3 * 0.25 * math.log(0.5))
    assert focal_loss(logp, label, torch.ones(2), 0.0).item() == pytest.approx(math.log(2))
    assert inverse_frequency(torch.tensor([0, 1, 1, 1]), 2).tolist() == pytest.approx([2.0, 2 / 3])


def test_the_run_moves_by_exactly_the_estimate(tmp_path):
    model, plain, _ = reprogrammed(tmp_path, q=3, beta=0.5)
    program, mapped = new_parts_of(model)
    groups, at_D = mapped.config.groups, torch.zeros(program.config.numbers)
    with torch.no_grad():
        for step in range(STEPS):
            along_QD = unit_directions(3, len(at_D), 7, step)
            here = by_hand(plain, program, groups, at_D).double()
            estimate = torch.zeros_like(at_D)
            for u in along_QD:
                slope = (by_hand(plain, program, groups, at_D + 0.5 * u).double() - here) / 0.5
                estimate += (len(at_D) * slope * u / 3).float()
            at_D = at_D - RATE * estimate
    rounding = 1e-3 * float(at_D.abs().max())  # of fp32 losses, d / beta times as large in the estimate
    assert (program.program_D - at_D).abs().max() < rounding
    assert float(at_D.abs().max()) > 1e-3
    for name, tensor in plain.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor), "the model stays as it is"


def test_with_the_exact_gradient_it_is_white_box_reprogramming_to_the_bit(tmp_path):
    """A plain loop around the network with torch's own SGD, in which nothing of a method or of the loop occurs."""
    model, plain, method = reprogrammed(tmp_path, estimator="exact")
    program, mapped = new_parts_of(model)
    learn = rows()
    plain.requires_grad_(False)
    weight = torch.nn.Parameter(torch.zeros(program.config.numbers))
    optimizer = torch.optim.SGD([weight], lr=RATE, momentum=0.0)
    assert len(method.orders) == STEPS
    for order in method.orders:
        batch = learn.batch(order)
        images = torch.where(program.mask_HW, framed(program, weight), batch.images_BCHW)
        logp_BJ = mapped_log_probs(plain(pixel_values=images).logits, mapped.map_JK)
        loss = focal_loss(logp_BJ, batch.label_B, inverse_frequency(learn.label_N, 2), 2.0).sum() / 8
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert torch.equal(program.program_D, weight)
    assert float(weight.detach().abs().max()) > 0


def framed(program, weight) -> torch.Tensor:
    shown = torch.zeros(1, 1, SIDE, SIDE)
    shown[..., program.mask_HW] = (torch.tanh(weight)[None] * program.reach_C[:, None])[None]
    return program.grey_C[:, None, None] + shown


def test_the_exact_gradient_of_what_can_only_be_asked_is_refused(tmp_path):
    box, data = pal.BlackBox(probs_of(tiny_net()), labels="abcd", image_size=SIDE), write_rows(tmp_path / "rows.npz")
    with pytest.raises(ModelError, match=r"bar\.estimator = exact needs the model's gradient"):
        pal.learn(box, str(data), method="bar", plan={"options": {"estimator": "exact"}})


def test_more_labels_than_there_are_are_refused():
    method = BAR(configure("bar", {"labels": 3}))
    with pytest.raises(PlanError, match=r"need 6, and the model has 4; accepted: at most 2 each"):
        method.parts(tiny_net(), {"learn": rows()}, 0)


def test_q_queries_and_one_for_each_image_of_a_step():
    assert BAR.queries(configure("bar", {"q": 5}), 300, 20, 400) == 300 * 20 * 6 + 400
    assert BAR.queries(configure("bar", {"q": 1, "mapping": "random"}), 10, 2, 400) == 40


def test_a_function_is_reprogrammed_and_the_mapping_alone_is_beside_it(tmp_path):
    calls = []

    def box(images):
        calls.append(len(images))
        return probs_of(tiny_net())(images)

    data = write_rows(tmp_path / "rows.npz")
    plan = {"training": {"max_steps": 2, "batch_size": 4}, "options": {"q": 2}}
    found = pal.BlackBox(box, labels="abcd", image_size=SIDE, price_per_query=0.01, budget=200)
    run = pal.learn(found, str(data), method="bar", plan=plan, output=tmp_path / "out")
    notes = " ".join(run.notes)
    assert "mapping of labels alone" in notes
    assert f"{sum(calls)} queries were spent, {sum(calls) * 0.01:.2f} at 0.01 each" in notes
