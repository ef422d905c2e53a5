"""Worked by hand: ascent is minus the nll, and its gradient is minus the gradient of fine-tuning."""

import math

import pytest
import torch

from palimpsest import methods
from palimpsest.contract import Phase
from palimpsest.errors import PlanError
from palimpsest.methods.gradient_ascent import GradientAscent, ascent_loss


def test_loss_is_the_log_likelihood(skewed, two_rows):
    terms = GradientAscent(None).loss(skewed, {"forget": two_rows}, Phase("joint", ("forget",)))
    assert terms["forget"].total.item() == pytest.approx(2 * math.log(0.8) + math.log(0.2), rel=1e-6)


def test_one_step_lowers_the_likelihood(skewed, two_rows):
    loss = ascent_loss(two_rows.predict(skewed).logp_S)
    loss.backward()
    with torch.no_grad():
        skewed.table -= 0.1 * skewed.table.grad
    assert ascent_loss(two_rows.predict(skewed).logp_S) < loss


def test_options_are_refused():
    with pytest.raises(PlanError, match="unknown option of gradient_ascent 'alpha'"):
        methods.configure("gradient_ascent", {"alpha": 1})
