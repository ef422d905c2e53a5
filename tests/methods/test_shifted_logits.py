"""A constant added to all logits of a position says nothing new, so no loss may see it.

The tables of the other tests hold log-probabilities. There a loss that reads raw logits as if they were, as MUSE's KL
and its NPO do, is right by chance.
"""

from __future__ import annotations

import copy

import pytest
import torch
from tests.methods.conftest import FixedReference, TableModel
from tests.methods.spelled_out import OTHER, WORDS, batch, table

from palimpsest import methods
from palimpsest.contract import Phase

ASKS = {
    **dict.fromkeys(("gradient_ascent", "grad_diff", "kl", "npo", "sim_npo", "undial", "unilogit"), ()),
    **dict.fromkeys(("wga", "sat_imp", "ce_u", "scrub"), ()),
    **dict.fromkeys(("idk", "idk_dpo", "jens_un"), ("refusal",)),
    "alt_po": ("alternative",),
    "llmu": ("mismatched",),
    "who_is_harry_potter": ("generic",),
}
"""Loss on texts -> the sets beside forget and retain. Those that prepare something first have tests of their own."""


def shifted(model: TableModel, by: float) -> TableModel:
    """The same probabilities by other logits, another constant after each token."""
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.table += by * torch.arange(1, WORDS + 1)[:, None]
    return other


def loss_of(name: str, model: TableModel, reference: TableModel) -> torch.Tensor:
    method = methods.load(name)(methods.configure(name, {}), FixedReference(reference))
    given = {"forget": batch(), "retain": batch(OTHER), **{which: batch() for which in ASKS[name]}}
    phase = "max" if name == "scrub" else "joint"
    terms = method.loss(model, given, Phase(phase, tuple(given)))
    return torch.stack([term.total for term in terms.values()])


@pytest.mark.parametrize("name", ASKS)
def test_a_constant_beside_the_logits_changes_no_loss(name):
    model, reference = table(30), table(31)
    wanted = loss_of(name, model, reference)
    assert wanted.abs().min() > 1e-6
    for other in (loss_of(name, shifted(model, 0.7), reference), loss_of(name, model, shifted(reference, -1.3))):
        assert torch.allclose(other, wanted, rtol=1e-3, atol=1e-7)
