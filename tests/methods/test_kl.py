"""Worked by hand: KL((0.5, 0.5) ‖ (0.8, 0.2)) = 0.5·log(0.5/0.8) + 0.5·log(0.5/0.2) = 0.22314 nats a position."""

import pytest

from palimpsest import methods
from palimpsest.contract import Phase
from palimpsest.errors import PlanError
from palimpsest.methods.kl import KL, KLConfig


def test_kl_term_counts_label_positions_only(half, reference_half, skewed, two_rows):
    method = KL(KLConfig(), reference_half)
    terms = method.loss(skewed, {"forget": two_rows, "retain": two_rows}, Phase("joint", ("forget", "retain")))
    assert terms["kl"].total.item() == pytest.approx(3 * 0.2231436, rel=1e-5)


def test_kl_is_zero_at_the_reference(half, reference_half, two_rows):
    method = KL(KLConfig(), reference_half)
    terms = method.loss(half, {"forget": two_rows, "retain": two_rows}, Phase("joint", ("forget", "retain")))
    assert terms["kl"].total.item() == pytest.approx(0.0, abs=1e-7)


def test_negative_factor_is_refused():
    with pytest.raises(PlanError, match="kl.alpha"):
        methods.configure("kl", {"alpha": -1})
