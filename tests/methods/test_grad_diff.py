"""Worked by hand; gamma = 0 is fine-tuning on retain."""

import math

import pytest

from palimpsest import methods
from palimpsest.contract import Phase
from palimpsest.errors import PlanError
from palimpsest.methods.grad_diff import GradDiff, GradDiffConfig


def test_the_two_sides_have_opposite_signs(skewed, two_rows):
    terms = GradDiff(GradDiffConfig(gamma=2.0, alpha=3.0)).loss(
        skewed, {"forget": two_rows, "retain": two_rows}, Phase("joint", ("forget", "retain"))
    )
    by_hand = 2 * math.log(0.8) + math.log(0.2)
    assert terms["forget"].total.item() == pytest.approx(by_hand, rel=1e-6)
    assert terms["retain"].total.item() == pytest.approx(-by_hand, rel=1e-6)
    assert (terms["forget"].weight, terms["retain"].weight) == (2.0, 3.0)


def test_negative_factor_is_refused():
    with pytest.raises(PlanError, match="grad_diff.gamma"):
        methods.configure("grad_diff", {"gamma": -1})
