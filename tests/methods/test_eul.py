"""Worked by hand: model (0.5, 0.5), with its layers (0.8, 0.2); 3 label tokens, of which two are the first word.

KL(F ‖ F_f) is 0.2231436 at every position; −log p_f is 0.2231436 twice and 1.6094379 once.
"""

import math

import pytest
import torch

from palimpsest.loop.step import weighted_loss
from palimpsest.methods.eul import EUL, FORGET, RETAIN, SETTLE, EULConfig, clamped_sum

KL, NLL = 0.2231436, (2 * 0.2231436 + 1.6094379) / 3


def test_the_retain_terms_hold_the_layers_to_the_model_and_the_labels(reference_half, skewed, two_rows):
    terms = EUL(EULConfig(alpha=0.5, lambda_task=2.0), reference_half).loss(skewed, {"retain": two_rows}, RETAIN)
    assert weighted_loss(terms, dict.fromkeys(terms, 3)).item() == pytest.approx(0.5 * KL + 2 * NLL, rel=1e-5)


def test_the_forget_terms_pull_away_from_both(reference_half, skewed, two_rows):
    terms = EUL(EULConfig(gamma=0.5), reference_half).loss(skewed, {"forget": two_rows}, FORGET)
    assert weighted_loss(terms, dict.fromkeys(terms, 3)).item() == pytest.approx(-KL - 0.5 * NLL, rel=1e-5)


def test_beyond_the_clamps_nothing_pulls_any_more(reference_half, skewed, two_rows):
    method = EUL(EULConfig(most_kl=0.1, most_lm=0.1), reference_half)
    terms = method.loss(skewed, {"forget": two_rows}, FORGET)
    loss = weighted_loss(terms, dict.fromkeys(terms, 3))
    assert loss.item() == pytest.approx(-0.1 - 0.2 * 0.1)
    assert torch.count_nonzero(torch.autograd.grad(loss, skewed.table)[0]) == 0


def test_at_the_model_itself_the_divergence_has_no_gradient(half, reference_half, two_rows):
    """Why layers begin as noise."""
    term = EUL(EULConfig(), reference_half).loss(half, {"forget": two_rows}, FORGET)["kl_forget"]
    assert torch.count_nonzero(torch.autograd.grad(term.total, half.table)[0]) == 0


def test_rounds_end_with_passes_over_retain():
    stages = EUL(EULConfig(rounds=2)).stages({"forget": 3, "retain": 5})
    assert [(stage.name, stage.anchor, stage.epochs) for stage in stages] == [
        ("retain", "retain", 0.25),
        ("forget", "forget", 1.0),
        ("retain", "retain", 0.25),
        ("forget", "forget", 1.0),
        ("settle", "retain", 1.2),
    ]
    assert {stage.phases for stage in stages} == {(RETAIN,), (FORGET,), (SETTLE,)}
    assert not any(stage.fresh for stage in stages)


def test_a_position_beyond_the_clamp_counts_as_the_clamp():
    assert clamped_sum(torch.tensor([1.0, math.inf]), 12.0).item() == 13.0
