"""Worked by hand: teacher (0.5, 0.5), student (0.8, 0.2), 3 label tokens.

KL at T = 1 is 0.2231436; at T = 2 the student is (2/3, 1/3), the KL 0.0588915 and T² times it 0.235566.
"""

import math

import pytest
import torch

from palimpsest import methods
from palimpsest.contract import Phase
from palimpsest.errors import PlanError
from palimpsest.loop.step import weighted_loss
from palimpsest.methods.scrub import SCRUB, SCRUBConfig, softened_divergence

MAX, MIN = Phase("max", ("forget",)), Phase("min", ("retain",))


@pytest.mark.parametrize(("temperature", "by_hand"), [(1.0, 0.2231436), (2.0, 0.235566)])
def test_the_max_step_climbs_the_divergence(half, reference_half, skewed, two_rows, temperature, by_hand):
    method = SCRUB(SCRUBConfig(temperature=temperature), reference_half)
    terms = method.loss(skewed, {"forget": two_rows}, MAX)
    assert weighted_loss(terms, {"max": 3}).item() == pytest.approx(-by_hand, rel=1e-5)


def test_the_min_step_descends_on_labels_and_divergence(half, reference_half, skewed, two_rows):
    method = SCRUB(SCRUBConfig(alpha=0.5, gamma=2.0, temperature=2.0), reference_half)
    terms = method.loss(skewed, {"retain": two_rows}, MIN)
    nll = (-2 * math.log(0.8) - math.log(0.2)) / 3
    assert weighted_loss(terms, {"min": 3, "retain": 3}).item() == pytest.approx(0.5 * 0.235566 + 2 * nll, rel=1e-5)


@pytest.mark.parametrize(
    ("epochs", "max_epochs", "expected"),
    [
        (3, 2, [("max", 1), ("min", 1), ("max", 1), ("min", 2)]),
        (10, 1, [("max", 1), ("min", 10)]),
        (2, 0, [("min", 2)]),
        (2, 5, [("max", 1), ("min", 1), ("max", 1), ("min", 1)]),
        (1.5, 5, [("max", 1), ("min", 1), ("max", 1), ("min", 0.5)]),
        (0.5, 1, [("max", 1), ("min", 0.5)]),
    ],
)
def test_the_first_epochs_begin_with_a_max_epoch_over_forget(epochs, max_epochs, expected):
    method = SCRUB(SCRUBConfig(max_epochs=max_epochs))
    method.planned_epochs = float(epochs)
    stages = method.stages({"forget": 3, "retain": 5})
    assert [(stage.name, stage.epochs) for stage in stages] == expected
    assert {(stage.name, stage.anchor, stage.phases) for stage in stages} <= {
        ("max", "forget", (MAX,)),
        ("min", "retain", (MIN,)),
    }
    assert not any(stage.fresh for stage in stages)


def test_at_the_teacher_a_max_step_would_have_no_gradient(half, reference_half, two_rows):
    term = SCRUB(SCRUBConfig(), reference_half).loss(half, {"forget": two_rows}, MAX)["max"]
    assert torch.count_nonzero(torch.autograd.grad(term.total, half.table)[0]) == 0


def test_a_high_temperature_compares_centred_logits():
    """T² KL tends to half the variance of the logit differences (Hinton et al. 2015, section 2.1)."""
    generator = torch.Generator().manual_seed(0)
    teacher_SV, logits_SV = torch.randn(4, 9, generator=generator), torch.randn(4, 9, generator=generator)
    limit = ((logits_SV - teacher_SV).var(dim=1, unbiased=False) / 2).sum()
    assert torch.allclose(softened_divergence(teacher_SV, logits_SV, 100.0), limit, rtol=0.02)


def test_a_number_of_epochs_below_none_is_refused_and_the_old_share_said_to_be_gone():
    with pytest.raises(PlanError, match=r"scrub.max_epochs = -1: .*greater than or equal to 0"):
        methods.configure("scrub", {"max_epochs": -1})
    with pytest.raises(PlanError, match=r"scrub.max_share is gone: .*give max_epochs"):
        methods.configure("scrub", {"max_share": 0.5})
