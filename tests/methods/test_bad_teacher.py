"""Worked by hand: model (0.8, 0.2), good teacher (0.5, 0.5), bad teacher (0.2, 0.8), 3 label tokens.

KL((0.5, 0.5) ‖ (0.8, 0.2)) = 0.2231436; KL((0.2, 0.8) ‖ (0.8, 0.2)) = 0.2·log 0.25 + 0.8·log 4 = 0.8317766.
"""

import copy

import pytest
import torch

from palimpsest import methods
from palimpsest.contract import Phase
from palimpsest.data.encode.batch import TextSet, TokenSequence
from palimpsest.errors import PlanError
from palimpsest.methods.bad_teacher import BadTeacher, BadTeacherConfig, teaching_loss
from palimpsest.models.reference import FrozenCopy

PHASE = Phase("joint", ("forget", "retain"))


def test_each_set_has_its_teacher(half, reference_half, skewed, two_rows):
    method = BadTeacher(BadTeacherConfig(forget_weight=0.5, retain_weight=2.0), reference_half)
    method.teacher = copy.deepcopy(skewed)
    with torch.no_grad():
        method.teacher.table.copy_(skewed.table.flip(1))
    terms = method.loss(skewed, {"forget": two_rows, "retain": two_rows}, PHASE)
    assert terms["bad"].total.item() == pytest.approx(3 * 0.8317766, rel=1e-5)
    assert terms["good"].total.item() == pytest.approx(3 * 0.2231436, rel=1e-5)
    assert (terms["bad"].of, terms["bad"].weight) == ("forget", 0.5)
    assert (terms["good"].of, terms["good"].weight) == ("retain", 2.0)


def test_temperature_softens_both():
    teacher_SV, logits_SV = (torch.tensor([[p, 1 - p]]).log() for p in (0.5, 0.8))
    # (0.8, 0.2) at T = 2 is (2/3, 1/3): 0.5·log(0.75) + 0.5·log(1.5)
    assert teaching_loss(teacher_SV, logits_SV, 2.0).item() == pytest.approx(0.0588915, rel=1e-5)


def test_descent_ends_at_the_incompetent_teachers_answers(tiny_llama):
    sequences = [
        TokenSequence(name, tokens, (False, True, True)) for name, tokens in (("a", (3, 4, 5)), ("b", (6, 7, 8)))
    ]
    sets = {name: TextSet(sequences, pad_id=0) for name in ("forget", "retain")}
    method = BadTeacher(BadTeacherConfig(retain_weight=0.0, seed=1), FrozenCopy(tiny_llama))
    model = method.prepare(tiny_llama, sets)
    batches = {name: examples.batch(examples.ids) for name, examples in sets.items()}
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.0)
    first = None
    for _ in range(30):
        total = method.loss(model, batches, PHASE)["bad"].total
        first = total.item() if first is None else first
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
    assert total.item() < 0.1 * first
    assert all(p.grad is None for p in method.teacher.parameters())


def test_temperature_zero_is_refused():
    with pytest.raises(PlanError, match="bad_teacher.temperature = 0"):
        methods.configure("bad_teacher", {"temperature": 0})
