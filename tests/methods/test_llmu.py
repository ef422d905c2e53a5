"""Worked by hand: model (0.8, 0.2), reference (0.5, 0.5); forget 0, 0; a random answer 1; retain two labels.

log 0.64; log 5; KL((0.5, 0.5) ‖ (0.8, 0.2)) = 0.2231436 a label.
"""

from __future__ import annotations

import math

import pytest
from tests.methods.conftest import FixedReference, sequence
from tests.methods.spelled_out import OTHER, ROWS, batch, places, table

from palimpsest import methods
from palimpsest.contract import Phase
from palimpsest.data.encode.batch import collate
from palimpsest.errors import PlanError
from palimpsest.methods.llmu import LLMU, LLMUConfig

JOINT = Phase("joint", ("forget", "mismatched", "retain"))


def test_loss_by_hand(skewed, reference_half):
    rows = {"forget": (0, 0, 0), "mismatched": (0, 1), "retain": (1, 0, 1)}
    given = {name: collate([sequence(name, *tokens)], 0) for name, tokens in rows.items()}
    terms = LLMU(LLMUConfig(), reference_half).loss(skewed, given, JOINT)
    found = {name: (term.total.item(), term.weight) for name, term in terms.items()}
    assert found["forget"] == (pytest.approx(math.log(0.64), rel=1e-5), 0.5)
    assert found["random"] == (pytest.approx(math.log(5), rel=1e-5), 1.0)
    assert found["kl"] == (pytest.approx(2 * 0.2231436, rel=1e-5), 1.0)


def test_the_divergence_is_at_label_tokens_of_log_probabilities():
    """The traps: over prompt and padding, too; and of raw logits, which need not even be positive."""
    model, reference = table(22), table(23)
    given = {"forget": batch(), "mismatched": batch(), "retain": batch(OTHER)}
    found = LLMU(LLMUConfig(), FixedReference(reference)).loss(model, given, JOINT)["kl"].total.item()
    pairs = list(zip(places(reference, OTHER), places(model, OTHER), strict=True))
    wanted = sum(b * math.log(b / a) for r, m in pairs for b, a in zip(r.p, m.p, strict=True))
    assert found == pytest.approx(wanted, rel=1e-4)
    raw = sum(b * (math.log(b) - z) for r, m in pairs for b, z in zip(r.p, [z + 1 for z in m.logits], strict=True))
    assert abs(found - raw) > 0.1
    everywhere = reference.table[given["retain"].input_ids_BT], model.table[given["retain"].input_ids_BT]
    before_BTV, after_BTV = (logits_BTV.log_softmax(-1) for logits_BTV in everywhere)
    assert abs(found - (before_BTV.exp() * (before_BTV - after_BTV)).sum().item()) > 0.1


def test_without_ascent_and_random_answers_the_model_before_stays():
    model = table(24)
    given = {"forget": batch(ROWS), "mismatched": batch(), "retain": batch(OTHER)}
    terms = LLMU(LLMUConfig(forget_weight=0, random_weight=0), FixedReference(model)).loss(model, given, JOINT)
    sum(term.weight * term.total for term in terms.values()).backward()
    assert model.table.grad.abs().max() < 1e-6


def test_a_negative_factor_is_refused():
    with pytest.raises(PlanError, match=r"llmu\.random_weight = -1: .*greater than or equal to 0"):
        methods.configure("llmu", {"random_weight": -1})
