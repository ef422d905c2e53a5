"""Worked by hand: KL((0.5, 0.5) ‖ (0.8, 0.2)) = 0.5·log(0.5/0.8) + 0.5·log(0.5/0.2) = 0.22314 nats a position."""

import math

import pytest
from tests.methods.conftest import FixedReference
from tests.methods.spelled_out import OTHER, batch, places, table

from palimpsest import methods
from palimpsest.contract import Phase
from palimpsest.errors import PlanError
from palimpsest.methods.kl import KL, KLConfig


def test_kl_term_counts_label_positions_only(half, reference_half, skewed, two_rows):
    method = KL(KLConfig(), reference_half)
    terms = method.loss(skewed, {"forget": two_rows, "retain": two_rows}, Phase("joint", ("forget", "retain")))
    assert terms["kl"].total.item() == pytest.approx(3 * 0.2231436, rel=1e-5)


def test_as_spelled_out_and_not_over_prompt_and_padding():
    """The trap: a mean over every position of the padded batch."""
    model, reference, rows = table(42), table(43), batch(OTHER)
    given, phase = {"forget": batch(), "retain": rows}, Phase("joint", ("forget", "retain"))
    found = KL(KLConfig(), FixedReference(reference)).loss(model, given, phase)["kl"].total.item()
    pairs = zip(places(reference, OTHER), places(model, OTHER), strict=True)
    assert found == pytest.approx(
        sum(b * math.log(b / a) for r, m in pairs for b, a in zip(r.p, m.p, strict=True)), rel=1e-4
    )
    before_BTV, after_BTV = (one.table[rows.input_ids_BT].log_softmax(-1) for one in (reference, model))
    assert abs(found - (before_BTV.exp() * (before_BTV - after_BTV)).sum().item()) > 0.1


def test_kl_is_zero_at_the_reference(half, reference_half, two_rows):
    method = KL(KLConfig(), reference_half)
    terms = method.loss(half, {"forget": two_rows, "retain": two_rows}, Phase("joint", ("forget", "retain")))
    assert terms["kl"].total.item() == pytest.approx(0.0, abs=1e-7)


def test_negative_factor_is_refused():
    with pytest.raises(PlanError, match="kl.alpha"):
        methods.configure("kl", {"alpha": -1})
