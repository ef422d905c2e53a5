"""Sets in the place of others that were not given."""

from __future__ import annotations

import pytest

from palimpsest import derived
from palimpsest.derived import stand_in
from palimpsest.methods import card, names
from palimpsest.models.families import family_named

INSTEAD = {"replay": "own_words"}


@pytest.mark.parametrize(
    ("given", "family", "made"),
    [
        (("forget", "retain"), "causal", ("own_words",)),
        (("forget", "replay"), "causal", ()),
        (("forget", "retain"), "seq2seq", ()),
    ],
)
def test_it_is_made_where_the_other_is_missing_and_the_model_allows_it(given, family, made):
    assert stand_in(INSTEAD, given, family_named(family)) == made


def test_every_method_names_a_set_that_it_uses_and_one_that_can_be_made():
    found = {name: card(name).instead for name in names() if card(name).instead}
    assert found.keys() >= {"guard", "eco"}
    for name, instead in found.items():
        assert set(instead) <= set(card(name).uses)
        assert set(instead.values()) <= set(derived.names())
