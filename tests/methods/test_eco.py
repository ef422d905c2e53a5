"""ECO: the search for a strength against functions whose answer is known, and where its part reads."""

from __future__ import annotations

import pytest
from tests.contract.test_guards import rows

from palimpsest import methods
from palimpsest.errors import PlanError
from palimpsest.methods.eco import ECO, ECOConfig, least_sigma


@pytest.mark.parametrize("wanted", [-0.1, -1.0, -7.0, -40.0])
def test_the_strength_is_enough_and_an_eighth_less_is_not(wanted):
    """A likelihood that falls with the strength: the answer is −wanted, found from above to an eighth of it."""
    found = least_sigma(lambda sigma: -sigma, wanted, 64.0)
    assert -found <= wanted
    assert found - max(0.125, found) / 8 <= -wanted


def test_a_likelihood_that_never_falls_ends_at_the_most():
    assert least_sigma(lambda _: 0.0, -1.0, 8.0) == 8.0


def test_its_part_reads_the_embeddings(tiny_llama):
    sets = {"forget": rows("f", 3, 40, 1), "retain": rows("r", 3, 50, 2)}
    (part,) = ECO(ECOConfig()).parts(tiny_llama, sets, 5)
    assert (part.config.at, part.config.width, part.config.seed) == ("model.embed_tokens", 32, 5)


def test_a_negative_strength_is_refused():
    with pytest.raises(PlanError, match=r"eco\.sigma = -1: .*greater than or equal to 0"):
        methods.configure("eco", {"sigma": -1})
