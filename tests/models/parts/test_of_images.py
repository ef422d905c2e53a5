"""The parts that act on the images of a whole model, and on the classes that it says."""

from __future__ import annotations

import copy

import pytest
import torch
from tests.models.black_boxes import SIDE, tiny_net

from palimpsest.errors import ModelError
from palimpsest.models import parts
from palimpsest.models.load import load
from palimpsest.models.parts.label_map import IMPOSSIBLE, LabelMap, LabelMapConfig, frequent_groups, random_groups
from palimpsest.models.parts.program import Program, ProgramConfig
from palimpsest.models.parts.with_parts import write_version
from palimpsest.models.programming import inner_place

FRAMED = ProgramConfig(height=SIDE, width=SIDE, grey=(0.0,), reach=(1.0,), inner=(2, 3, 6, 7))
MAP = LabelMapConfig(classes=4, groups=((3, 0), (1,)))


def said(model):
    with torch.no_grad():
        return model(pixel_values=torch.linspace(-1, 1, 2 * SIDE * SIDE).reshape(2, 1, SIDE, SIDE)).logits.clone()


@pytest.fixture(params=["program", "label_map"])
def part(request):
    torch.manual_seed(0)
    made = Program(FRAMED) if request.param == "program" else LabelMap(MAP)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_()
    return made


def test_off_it_is_the_model_and_saved_it_is_itself(part, tmp_path):
    model = tiny_net()
    plain = said(model)
    parts.attach(model, [part])
    wanted = said(model)
    assert not torch.equal(wanted, plain)
    with parts.off(model):
        assert torch.equal(said(model), plain)
    assert torch.equal(said(copy.deepcopy(model)), wanted)
    write_version(model, tmp_path / "v")
    assert torch.equal(said(load(tmp_path / "v").model), wanted)
    parts.detach(model)
    assert torch.equal(said(model), plain)


def test_a_program_is_the_frame_and_leaves_the_image_alone():
    program = Program(FRAMED)
    with torch.no_grad():
        program.program_D.normal_()
    images = torch.rand(3, 1, SIDE, SIDE)
    laid = program.laid_on(images)
    number = 0
    for row in range(SIDE):
        for column in range(SIDE):
            if 2 <= row < 6 and 3 <= column < 7:
                assert torch.equal(laid[:, 0, row, column], images[:, 0, row, column])
            else:
                wanted = torch.tanh(program.program_D[number]).expand(3)
                assert torch.equal(laid[:, 0, row, column], wanted)
                number += 1
    assert number == len(program.program_D) == FRAMED.numbers


def test_several_programs_are_tried_each_on_its_part_of_a_batch():
    program, images = Program(FRAMED), torch.rand(2, 1, SIDE, SIDE)
    tried_PD = torch.randn(3, FRAMED.numbers)
    with program.trying(tried_PD):
        together = program.laid_on(images.repeat(3, 1, 1, 1))
    for number in range(3):
        with torch.no_grad():
            program.program_D.copy_(tried_PD[number])
        assert torch.equal(together[2 * number : 2 * number + 2], program.laid_on(images))


def test_without_a_frame_it_is_added_to_the_image():
    program = Program(ProgramConfig(height=2, width=2, grey=(0.5,), reach=(0.25,)))
    with torch.no_grad():
        program.program_D.fill_(100.0)
    assert torch.equal(program.laid_on(torch.zeros(1, 1, 2, 2)), torch.full((1, 1, 2, 2), 0.25))


def test_the_inner_place_is_found_or_there_is_none():
    images = torch.full((3, 5, 6, 1), 9, dtype=torch.uint8)
    assert inner_place(images) is None
    images[0, 1, 2], images[2, 3, 4] = 0, 1
    assert inner_place(images) == (1, 2, 4, 5)
    images[1, 0, 0], images[1, 4, 5] = 1, 1
    assert inner_place(images) is None


def test_a_map_is_the_mean_of_its_labels_and_the_rest_is_impossible():
    model = tiny_net()
    probs = said(model).softmax(-1)
    parts.attach(model, [LabelMap(MAP)])
    mapped = said(model)
    wanted = torch.stack([(probs[:, 0] + probs[:, 3]) / 2, probs[:, 1]], 1)
    assert torch.allclose(mapped[:, :2].exp(), wanted)
    assert bool((mapped[:, 2:] == IMPOSSIBLE).all())


def test_a_map_of_another_width_is_refused():
    model = tiny_net()
    parts.attach(model, [LabelMap(LabelMapConfig(classes=9, groups=((0,), (1,))))])
    with pytest.raises(ModelError, match="is for 9 classes and the model has 4"):
        said(model)


@pytest.mark.parametrize(
    ("groups", "why"),
    [(((0,), (0,)), "none named twice"), (((0,), ()), "none may be empty"), (((0,), (4,)), "labels are 0 to 3")],
)
def test_groups_that_cannot_be_are_refused(groups, why):
    with pytest.raises(ValueError, match=why):
        LabelMapConfig(classes=4, groups=groups)


def test_maps_are_disjoint_and_the_frequent_one_takes_what_is_typical():
    torch.manual_seed(0)
    label_N = torch.arange(30) % 3
    probs_NK = torch.rand(30, 9) + 4 * (torch.arange(9)[None] % 3 == label_N[:, None])
    found = frequent_groups(probs_NK / probs_NK.sum(1, keepdim=True), label_N, 3, 3)
    assert found == ((0, 3, 6), (1, 4, 7), (2, 5, 8))
    drawn = random_groups(9, 3, 2, seed=4)
    assert len({label for group in drawn for label in group}) == 6
    assert drawn == random_groups(9, 3, 2, seed=4) != random_groups(9, 3, 2, seed=5)
