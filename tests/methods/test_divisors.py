"""What each term of a loss is a mean of: scored tokens, or rows where the paper's preference is one of whole rows.

The totals that the other tests look at are sums; a sum over tokens that is divided by rows is another loss, in which a
long answer weighs more than a short one.
"""

from __future__ import annotations

import pytest
from tests.methods.conftest import FixedReference
from tests.methods.spelled_out import OTHER, batch, table
from tests.methods.test_shifted_logits import ASKS

from palimpsest import methods
from palimpsest.contract import Phase

BY_ROWS = {("npo", "forget"), ("sim_npo", "forget"), ("alt_po", "preference"), ("idk_dpo", "preference")}


@pytest.mark.parametrize("name", ASKS)
def test_a_term_is_divided_by_tokens_but_where_rows_are_preferred(name):
    method = methods.load(name)(methods.configure(name, {}), FixedReference(table(31)))
    given = {"forget": batch(), "retain": batch(OTHER), **{which: batch() for which in ASKS[name]}}
    for phase in ("max", "min") if name == "scrub" else ("joint",):
        terms = method.loss(table(30), given, Phase(phase, tuple(given)))
        assert {(name, term) for term, found in terms.items() if found.per == "example"} == {
            pair for pair in BY_ROWS if pair[0] == name
        }
