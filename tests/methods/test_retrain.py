"""Worked by hand as in test_finetune; and the forget set never enters."""

import math

import pytest

from palimpsest import methods
from palimpsest.contract import Phase
from palimpsest.errors import PlanError
from palimpsest.methods.retrain import Retrain, RetrainConfig


def test_loss_is_the_summed_nll_of_the_retain_set(skewed, two_rows):
    terms = Retrain(RetrainConfig()).loss(skewed, {"retain": two_rows}, Phase("joint", ("retain",)))
    assert terms["retain"].total.item() == pytest.approx(-2 * math.log(0.8) - math.log(0.2), rel=1e-6)


def test_it_starts_from_the_base_and_never_sees_the_forget_set():
    assert Retrain.starts_from == "base"
    assert "forget" not in (*Retrain.needs, *Retrain.uses)


def test_unknown_option_is_refused():
    with pytest.raises(PlanError, match="did you mean 'replay_weight'"):
        methods.configure("retrain", {"replay_wieght": 1})
